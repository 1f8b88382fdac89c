import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { resolveOptions, type VmOptions } from '../../lib/vm/options.js';
import { type Machine, qemuArguments } from '../../lib/vm/qemu.js';
import { runInVm } from '../../lib/vm/run.js';

const [type, value, range] = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE'];
const absent = 'ERR_DMABUF_VM_OPTION';

const wrong: [string, Partial<VmOptions>, string | undefined, RegExp][] = [
  [
    'no command',
    { command: undefined as never },
    type,
    /command must be an array of strings\. Received undefined/,
  ],
  [
    'a command that is a string',
    { command: 'ls' as never },
    type,
    /command must be an array of strings\. Received 'ls'/,
  ],
  ['modules that are a string', { modules: 'vgem' as never }, type, /modules must be an array of strings/],
  ['a kernel that is a number', { kernel: 7.3 as never }, type, /kernel must be a string\. Received 7\.3/],
  ['a signal that is none', { signal: {} as never }, type, /signal must be an AbortSignal/],
  [
    'an input that is a text',
    { stdin: 'text' as never },
    type,
    /stdin must be a readable stream\. Received 'text'/,
  ],
  [
    'a terminal that is a text',
    { terminal: 'yes' as never },
    type,
    /terminal must be true or false\. Received 'yes'/,
  ],
  [
    'a terminal with an input',
    { terminal: true, stdin: process.stdin },
    value,
    /terminal joins .* stdin and stdout cannot be given/,
  ],
  ['an empty command', { command: [] }, value, /command is empty/],
  ['a NUL character in an argument', { command: ['a', 'b\0c'] }, value, /NUL/],
  ['no CPU', { cpus: 0 }, range, /cpus must be from 1 to 255/],
  ['half a CPU', { cpus: 1.5 }, range, /cpus must be a whole number/],
  ['too little memory', { memory: 16 }, range, /memory must be from 128 to/],
  ['a time limit of less than a millisecond', { timeout: 0.5 }, range, /timeout must be/],
  ['a time limit that is no number', { timeout: Number.NaN }, range, /timeout must be/],
  ['a relative folder', { cwd: 'here' }, range, /cwd must be an absolute path/],
  ['icount with several CPUs', { icount: true, cpus: 2 }, value, /one CPU/],
  ['icount with KVM', { icount: true, accel: 'kvm' }, value, /KVM/],
  ['an accelerator nobody knows', { accel: 'hvf' as 'kvm' }, range, /'auto', 'tcg' or 'kvm'/],
  [
    'a processor nobody knows',
    { arch: 'riscv64' as 'arm64' },
    range,
    /arch must be x64 or arm64\. Received 'riscv64'/,
  ],
  [
    'another processor with KVM',
    { arch: 'arm64', accel: 'kvm' },
    value,
    /kvm runs this machine's processor only/,
  ],
  [
    "another processor with this machine's kernel",
    { arch: 'arm64', kernel: 'host' },
    value,
    /host is this machine's kernel, and arch is arm64/,
  ],
  [
    "the help of another processor's QEMU",
    { arch: 'arm64', devices: ['help'] },
    value,
    /run: qemu-system-aarch64 -device help/,
  ],
  ['an empty device', { devices: [''] }, value, /device \(--device\) is empty/],
  ['a device that is a string', { devices: 'VGA' as never }, type, /devices must be an array of strings/],
  ["QEMU's help", { machine: ['help'] }, value, /for QEMU's help, run: qemu-system-x86_64 -machine help/],
  [
    'a picture in no folder',
    { screendump: '/nowhere/x.png' },
    absent,
    /screendump \(--screendump\): \/nowhere\/x.png/,
  ],
  [
    'a picture of no display',
    { screendump: 'x.png' },
    absent,
    /screendump \(--screendump\): there is no display to take a picture of: .*--device VGA/,
  ],
  [
    'a picture that is a folder',
    { screendump: '/' },
    absent,
    /screendump \(--screendump\): \/ cannot be written: it is a/,
  ],
  ['a line break in a kernel argument', { kernelArguments: ['a\nb'] }, value, /line break/],
];

/** What a signal has to have beside `aborted`. */
const foreign = { addEventListener: () => {}, removeEventListener: () => {} };

describe('options of runInVm', () => {
  for (const [what, options, code, message] of wrong) {
    it(`refuse ${what}`, async () => {
      await assert.rejects(runInVm({ command: ['true'], ...options }), {
        code,
        message,
      });
    });
  }

  it('have defaults', () => {
    const { cpus, memory, timeout, cwd, accel } = resolveOptions({ command: ['true'] });
    assert.deepEqual(
      { cpus, memory, timeout, cwd, accel },
      { cpus: 2, memory: 4096, timeout: 600_000, cwd: process.cwd(), accel: 'auto' },
    );
  });

  it('give icount one emulated CPU', () => {
    const { cpus, accel } = resolveOptions({ command: ['true'], icount: true });
    assert.deepEqual({ cpus, accel }, { cpus: 1, accel: 'tcg' });
  });

  it('keep what is no string out of the environment', async () => {
    await assert.rejects(runInVm({ command: ['true'], env: { A: 1 as never } }), {
      code: value,
      message: /env: cannot pass on variable 'A'/,
    });
  });

  for (const [whose, signal] of [
    ['of this realm', AbortSignal.abort('no longer needed')],
    ['of another realm', { ...foreign, aborted: true, reason: 'no longer needed' }],
  ] as const) {
    it(`reject with the reason of a signal ${whose} that aborted before`, async () => {
      await assert.rejects(
        runInVm({ command: ['true'], signal: signal as AbortSignal }),
        (error) => error === 'no longer needed',
      );
    });
  }
});

describe('qemuArguments', () => {
  const machine: Machine = {
    arch: 'x64',
    kernelImage: '/k',
    initramfs: '/i',
    accel: 'tcg',
    icount: false,
    cpus: 2,
    memory: 4096,
    kernelArguments: ['cma=64M'],
    programs: undefined,
    share: undefined,
    network: false,
    devices: [],
    machine: [],
    monitor: false,
    sockets: { console: 3, stdout: 4, stderr: 5, control: 6, stdin: 8, events: 9, log: 10, monitor: 11 },
  };
  const line = (changes: Partial<Machine>): string => qemuArguments({ ...machine, ...changes }).join(' ');

  it('make instructions the clock with icount', () => {
    assert.match(
      line({ icount: true, cpus: 1 }),
      /-accel tcg,thread=single -cpu max,erms=off,fsrm=off -icount shift=0,sleep=off -smp 1 /,
    );
  });

  it('describe an arm64 machine, with a folder of programs for it', () => {
    const given = line({ arch: 'arm64', programs: '/a,b', machine: ['gic-version=3'] });
    assert.match(given, /^-machine virt -accel tcg,thread=multi -cpu max,pauth-impdef=on /);
    assert.match(given, / -machine gic-version=3 /);
    assert.match(given, / -virtfs local,path=\/a,,b,mount_tag=programs,security_model=none,readonly=on /);
    assert.match(given, /-append console=ttyAMA0 panic=-1 /);
    assert.doesNotMatch(line({}), /-machine|programs/);
  });

  it("put the caller's kernel arguments last", () => {
    assert.match(line({}), /-append console=ttyS0 .*panic=-1 .* cma=64M$/);
  });

  it('give the guest a network when it is asked for, and else none', () => {
    assert.match(line({}), / -net none /);
    assert.doesNotMatch(line({}), /-netdev/);
    assert.match(line({ network: true }), / -netdev user,id=network,ipv6=off -device virtio-net-pci,/);
    assert.doesNotMatch(line({ network: true }), /-net none/);
  });

  it('pass on each device and each machine', () => {
    const given = line({ devices: ['VGA', 'virtio-rng-pci'], machine: ['q35', 'graphics=off'] });
    assert.match(given, / -machine q35 -machine graphics=off .* -device VGA -device virtio-rng-pci /);
  });

  it('share a folder whose name has a comma', () => {
    assert.match(line({ share: '/a,b' }), / -virtfs local,path=\/a,,b,mount_tag=output,/);
  });

  it("never let the guest write to this machine's files", () => {
    assert.match(line({}), /-virtfs local,path=\/,[^ ]*readonly=on/);
  });
});
