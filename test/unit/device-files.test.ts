import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DeviceAccessReport } from '../support/programs/device-access.js';
import { runProgramInNamespace } from '../support/programs.js';

// What lies where a device should be: in a mount namespace with a /dev of its own, on any kernel.

const asRoot = process.geteuid?.() === 0 ? {} : { skip: 'only root may mount' };

const ownDev = `
  unset container KUBERNETES_SERVICE_HOST
  mount -t tmpfs tmpfs /mnt
  cp -a /dev/null /dev/zero /dev/tty /dev/random /dev/urandom /mnt/`;

/** Options that the kernel seems to be built with. */
function config(...lines: string[]): string {
  return `
    if [ -e /proc/config.gz ]; then
      echo '${lines.join('\n')}' | gzip > /mnt/config; mount --bind /mnt/config /proc/config.gz
    else
      mkdir -p /boot; mount -t tmpfs tmpfs /boot; echo '${lines.join('\n')}' > /boot/config-$(uname -r)
    fi`;
}

const all = [
  'CONFIG_DMABUF_HEAPS=y',
  'CONFIG_DMABUF_HEAPS_SYSTEM=y',
  'CONFIG_DMABUF_HEAPS_CMA=y',
  'CONFIG_UDMABUF=m',
];

const seenWith = (shell: string, options: string[] = all): DeviceAccessReport =>
  runProgramInNamespace(`${ownDev}; ${config(...options)}; ${shell}`, 'device-access');

const show = 'mount --bind /mnt /dev';

describe('what is no device', asRoot, () => {
  const seen =
    'skip' in asRoot
      ? (undefined as never)
      : seenWith(`
          mkdir /mnt/dma_heap; cd /mnt/dma_heap
          mkdir system ../udmabuf
          mkfifo fifo
          touch file
          cp -a /dev/null null
          cp -a /dev/tty tty
          mknod "$(printf 'evil\\033[31m')" c 511 255
          ln -s nowhere dangling
          ln -s loop loop
          ln -s /dev/dma_heap to-folder
          ln -s /dev/null to-null
          cd /; ${show}
          (: > /dev/dma_heap/fifo; : > /mnt/opened) & "$@"; kill $!; [ ! -e /mnt/opened ] || { echo 'the FIFO was opened' >&2; exit 1; }; exit`);
  const hint = (name: string): string => seen.refused[`/dev/dma_heap/${name}`]?.hint ?? '';

  test('is listed under its own name as what cannot be used', () => {
    assert.deepEqual(
      seen.list.map(({ name, path, accessible, error }) => [
        name,
        path === `/dev/dma_heap/${name}`,
        accessible,
        error,
      ]),
      [
        ['dangling', true, false, 'ENOENT'],
        ['evil\x1b[31m', true, false, 'ENXIO'],
        ['fifo', true, false, 'ENOTTY'],
        ['file', true, false, 'ENOTTY'],
        ['loop', true, false, 'ELOOP'],
        ['null', true, false, 'ENOTTY'],
        ['system', true, false, 'ENOTTY'],
        ['tty', true, false, 'ENOTTY'],
        ['to-folder', true, false, 'ENOTTY'],
        ['to-null', true, false, 'ENOTTY'],
      ],
    );
  });

  for (const [name, advice] of [
    [
      'system',
      /\/dev\/dma_heap\/system is a folder\. docker -v creates one.*rmdir \/dev\/dma_heap\/system.*--device/,
    ],
    ['fifo', /fifo is a FIFO, where a heap's device should be: remove it/],
    ['file', /file is a regular file, where/],
    ['null', /null is the device null \(1:3\), where/],
    ['tty', /tty is the device tty \(5:0\), where/],
    ['to-folder', /to-folder, a link to \/dev\/dma_heap, is a folder, where/],
    ['to-null', /to-null, a link to \/dev\/null, is the device null/],
    ['dangling', /dangling is a symbolic link to nowhere, which does not exist/],
    ['loop', /loop is a symbolic link to loop, in an endless loop of links/],
  ] as const) {
    test(`is refused with what it is: ${name}`, () => assert.match(hint(name), advice));
  }

  test('makes no source of memory, and each says why', () => {
    assert.deepEqual(
      seen.any?.attempts?.map(({ source, error }) => [source, error.code, error.syscall]),
      [
        ['system', 'ENOTTY', 'open'],
        ['udmabuf', 'ENOTTY', 'open'],
      ],
    );
    assert.match(
      seen.udmabuf?.message ?? '',
      /\/dev\/udmabuf is a folder\. docker -v.*--device \/dev\/udmabuf/,
    );
  });

  test('is no device to the examination and the command', () => {
    const { status, text, fix } = seen.findings.find(({ subject }) => subject === 'heap system') ?? {};
    assert.deepEqual([status, text], ['warn', '/dev/dma_heap/system: ENOTTY']);
    assert.match(fix ?? '', /is a folder/);
    assert.equal(seen.findings.find(({ subject }) => subject === 'allocate')?.status, 'fail');
    assert.deepEqual([seen.doctor.status, seen.heaps.status], [1, 1]);
    assert.match(seen.heaps.stdout, /^udmabuf +udmabuf +no \(ENOTTY\) /m);
  });

  test('is not among the heaps that an error names, and names are escaped', () => {
    assert.match(seen.cma?.hint ?? '', /Heaps here: evil\\x1b\[31m\.$/);
  });
});

describe('what lies in the way', asRoot, () => {
  test('of a heap does not keep memory from coming from elsewhere', () => {
    const seen = seenWith(`mkdir /mnt/dma_heap; ln -s system /mnt/dma_heap/system; ${show}`);
    assert.deepEqual(
      seen.any?.attempts?.map(({ error }) => error.code),
      ['ELOOP', 'ENOENT'],
    );
  });

  test('of all heaps stands in the list for them', () => {
    const seen = seenWith(`touch /mnt/dma_heap; ${show}`);
    assert.deepEqual(seen.list, [
      { name: 'dma_heap', path: '/dev/dma_heap', kind: 'unknown', accessible: false, error: 'ENOTDIR' },
    ]);
    const fault = /\/dev\/dma_heap is a regular file, where the folder of the heaps should be: remove it/;
    assert.match(seen.findings.find(({ subject }) => subject === 'heaps')?.fix ?? '', fault);
    assert.match(seen.system?.hint ?? '', fault);
  });
});

describe('advice about a device that is missing', asRoot, () => {
  const inContainer = `mkdir -p /mnt/empty; export container=docker; ${show}`;

  test('in a container names the device that was asked for', () => {
    const { system, cma, udmabuf } = seenWith(inContainer);
    assert.match(system?.hint ?? '', /--device \/dev\/dma_heap\/system/);
    assert.match(cma?.hint ?? '', /\/dev\/dma_heap\/default_cma_region/);
    assert.doesNotMatch(cma?.hint ?? '', /dma_heap\/system/);
    assert.match(udmabuf?.hint ?? udmabuf?.message ?? '', /--device \/dev\/udmabuf/);
  });

  test('does not have a device passed that the kernel was built without', () => {
    const { system, cma, udmabuf, findings } = seenWith(inContainer, ['CONFIG_DMABUF_HEAPS=n']);
    for (const said of [
      system?.hint,
      cma?.hint,
      udmabuf?.message,
      findings.find(({ subject }) => subject === 'heaps')?.fix,
    ]) {
      assert.match(
        said ?? '',
        /This kernel was built without CONFIG_(DMABUF_HEAPS|UDMABUF), according to \S+: run one that has it/,
      );
      assert.doesNotMatch(said ?? '', /--device|modprobe/);
    }
  });

  test('tells a kernel without the one heap from one without any', () => {
    const { system, cma } = seenWith(
      inContainer,
      all.filter((line) => !line.includes('CMA')),
    );
    assert.match(cma?.hint ?? '', /built without CONFIG_DMABUF_HEAPS_CMA/);
    assert.doesNotMatch(system?.hint ?? '', /built without/);
  });
});
