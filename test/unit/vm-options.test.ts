import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { resolveOptions, type VmOptions } from '../../lib/vm/options.js';
import { type Machine, qemuArguments } from '../../lib/vm/qemu.js';
import { runInVm } from '../../lib/vm/run.js';

const wrong: [string, Partial<VmOptions>, RegExp][] = [
  ['no command', { command: undefined as never }, /command must be an array of strings, not undefined/],
  ['a command that is a string', { command: 'ls' as never }, /command must be an array of strings, not 'ls'/],
  ['modules that are a string', { modules: 'vgem' as never }, /modules must be an array of strings/],
  ['a kernel that is a number', { kernel: 7.3 as never }, /kernel must be a string, not 7.3/],
  ['a signal that is none', { signal: {} as never }, /signal must be an AbortSignal/],
  ['an input that is a text', { stdin: 'text' as never }, /stdin must be a readable stream, not 'text'/],
  ['a terminal that is a text', { terminal: 'yes' as never }, /terminal must be true or false, not 'yes'/],
  [
    'a terminal with an input',
    { terminal: true, stdin: process.stdin },
    /terminal joins .* stdin and stdout cannot be given/,
  ],
  ['an empty command', { command: [] }, /command is empty/],
  ['a NUL character in an argument', { command: ['a', 'b\0c'] }, /NUL/],
  ['no CPU', { cpus: 0 }, /cpus must be a whole number/],
  ['half a CPU', { cpus: 1.5 }, /cpus must be a whole number/],
  ['too little memory', { memory: 16 }, /memory must be a whole number/],
  ['a time limit of 0', { timeout: 0 }, /timeout must be/],
  ['a time limit that is no number', { timeout: Number.NaN }, /timeout must be/],
  ['a relative folder', { cwd: 'here' }, /cwd must be an absolute path/],
  ['icount with several CPUs', { icount: true, cpus: 2 }, /one CPU/],
  ['icount with KVM', { icount: true, accel: 'kvm' }, /KVM/],
  ['an accelerator nobody knows', { accel: 'hvf' as 'kvm' }, /auto, tcg or kvm/],
  ['a processor nobody knows', { arch: 'riscv64' as 'arm64' }, /arch must be x64 or arm64, not 'riscv64'/],
  ['another processor with KVM', { arch: 'arm64', accel: 'kvm' }, /kvm runs this machine's processor only/],
  [
    "another processor with this machine's kernel",
    { arch: 'arm64', kernel: 'host' },
    /host is this machine's kernel, and arch is arm64/,
  ],
  [
    "the help of another processor's QEMU",
    { arch: 'arm64', devices: ['help'] },
    /run: qemu-system-aarch64 -device help/,
  ],
  ['an empty device', { devices: [''] }, /device \(--device\) is empty/],
  ['a device that is a string', { devices: 'VGA' as never }, /devices must be an array of strings/],
  ["QEMU's help", { machine: ['help'] }, /for QEMU's help, run: qemu-system-x86_64 -machine help/],
  [
    'a picture in no folder',
    { screendump: '/nowhere/x.png' },
    /screendump \(--screendump\): \/nowhere\/x.png/,
  ],
  [
    'a picture of no display',
    { screendump: 'x.png' },
    /screendump \(--screendump\): there is no display to take a picture of: .*--device VGA/,
  ],
  [
    'a picture that is a folder',
    { screendump: '/' },
    /screendump \(--screendump\): \/ cannot be written: it is a/,
  ],
  ['a line break in a kernel argument', { kernelArguments: ['a\nb'] }, /line break/],
];

describe('options of runInVm', () => {
  for (const [what, options, message] of wrong) {
    it(`refuse ${what}`, async () => {
      await assert.rejects(runInVm({ command: ['true'], ...options }), {
        code: 'ERR_DMABUF_VM_OPTION',
        message,
      });
    });
  }

  it('have defaults', () => {
    const { cpus, memory, timeout, cwd, accel } = resolveOptions({ command: ['true'] });
    assert.deepEqual(
      { cpus, memory, timeout, cwd, accel },
      { cpus: 2, memory: 4096, timeout: 600, cwd: process.cwd(), accel: 'auto' },
    );
  });

  it('give icount one emulated CPU', () => {
    const { cpus, accel } = resolveOptions({ command: ['true'], icount: true });
    assert.deepEqual({ cpus, accel }, { cpus: 1, accel: 'tcg' });
  });

  it('keep what is no string out of the environment', async () => {
    await assert.rejects(runInVm({ command: ['true'], env: { A: 1 as never } }), {
      code: 'ERR_DMABUF_VM_OPTION',
      message: /env: cannot pass on variable 'A'/,
    });
  });

  it('reject with the code for an abort that came first', async () => {
    await assert.rejects(runInVm({ command: ['true'], signal: AbortSignal.abort() }), {
      code: 'ERR_DMABUF_VM_ABORTED',
    });
  });
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
      /-accel tcg,thread=single -cpu max -icount shift=0,sleep=off -smp 1 /,
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
