import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import type { Finding } from 'dmabuf/inspect';
import { hasKernel, kernelTest } from '../../support/kernel-test.js';
import { programFile } from '../../support/peers.js';
import type { DeviceAccessReport } from '../../support/programs/device-access.js';
import { runProgramInNamespace } from '../../support/programs.js';

// open(2) has one errno for many causes. What the package says of each is seen on the kernel that refuses, in a mount
// namespace of its own.

const asNobody = 'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"';
const { rdev } = hasKernel ? statSync('/dev/dma_heap/system') : { rdev: 0 };
const major = (rdev >> 8) & 0xfff;

/** A folder of one's own in place of /dev/dma_heap, with the system heap in it, and a udmabuf that all may use. */
const ownDevices = `
  mount -t tmpfs -o mode=755 tmpfs /dev/dma_heap
  mknod -m 666 /dev/dma_heap/system c ${major} ${rdev & 0xff}
  mount -t tmpfs -o mode=755 tmpfs /mnt
  cp -a /dev/udmabuf /mnt/udmabuf
  chmod 666 /mnt/udmabuf
  mount --bind /mnt/udmabuf /dev/udmabuf`;

const noContainer = 'unset container KUBERNETES_SERVICE_HOST';

function runWith(shell: string): DeviceAccessReport {
  return runProgramInNamespace(`${noContainer}; ${shell}`, 'device-access');
}

function find(findings: readonly Finding[], subject: string): Finding {
  const found = findings.find((finding) => finding.subject === subject);
  assert.ok(found, `no finding about ${subject}: ${findings.map((finding) => finding.subject).join(', ')}`);
  return found;
}

const hintOf = (seen: DeviceAccessReport): string => seen.system?.hint ?? '';

if (hasKernel) {
  const notRoot = process.getuid?.() !== 0 && 'only root can change modes and mounts';
  const seenWith = (shell: string): DeviceAccessReport => (notRoot ? (undefined as never) : runWith(shell));
  const accessTest = (name: string, body: () => void): void => kernelTest(name, body, notRoot);

  // ---- a folder that may neither be listed nor entered

  const closed = seenWith(`${ownDevices}; chmod 700 /dev/dma_heap; ${asNobody}`);

  accessTest('a folder that may not be entered stands in the list for the heaps in it', () => {
    assert.deepEqual(closed.list, [
      { name: 'dma_heap', path: '/dev/dma_heap', kind: 'unknown', accessible: false, error: 'EACCES' },
    ]);
  });

  for (const heap of ['system', 'cma'] as const) {
    accessTest(
      `open('${heap}') in a folder that may not be entered names the folder, and no rule for devices`,
      () => {
        const { code, hint } = closed[heap] ?? {};
        assert.equal(code, 'EACCES');
        assert.match(
          hint ?? '',
          /folder \/dev\/dma_heap \(root and group root, 0, mode 0700\).*chmod 755 \/dev\/dma_heap/,
        );
        assert.doesNotMatch(hint ?? '', /udev rule/);
      },
    );
  }

  accessTest('the examination has a folder that may not be entered as one finding among the others', () => {
    const { status, text, fix } = find(closed.findings, 'heaps');
    assert.deepEqual([status, text], ['fail', '/dev/dma_heap cannot be listed: EACCES']);
    assert.match(fix ?? '', /chmod 755 \/dev\/dma_heap/);
    assert.equal(find(closed.findings, 'udmabuf').status, 'ok');
    assert.equal(find(closed.findings, 'lockdown').subject, 'lockdown'); // the last one
  });

  accessTest('dmabuf doctor shows it and ends with 1', () => {
    assert.equal(closed.doctor.status, 1, closed.doctor.stderr);
    assert.match(closed.doctor.stdout, /^FAIL {2}heaps: \/dev\/dma_heap cannot be listed: EACCES$/m);
    assert.match(closed.doctor.stdout, /^ok {4}udmabuf: /m);
  });

  accessTest('dmabuf heaps still lists udmabuf, says what to do, and ends with 1', () => {
    const { status, stdout, stderr } = closed.heaps;
    assert.equal(status, 1, stderr);
    assert.match(stdout, /^udmabuf +udmabuf +yes /m);
    assert.match(stdout, /^dma_heap +unknown +no \(EACCES\) /m);
    assert.match(stderr, /^dmabuf heaps: dma_heap: The folder \/dev\/dma_heap .*chmod 755/m);
  });

  // ---- a folder that may be entered, not listed

  const unlisted = seenWith(`${ownDevices}; chmod 711 /dev/dma_heap; ${asNobody}`);

  accessTest('a heap with a usual name is found in a folder that may only be entered', () => {
    assert.deepEqual(
      unlisted.list.map(({ name, accessible }) => [name, accessible]),
      [
        ['dma_heap', false],
        ['system', true],
      ],
    );
    assert.equal(unlisted.system, undefined);
  });

  accessTest('a folder that may only be entered is told from one that may not', () => {
    assert.match(find(unlisted.findings, 'heaps').fix ?? '', /may not be listed: as root, chmod 755/);
  });

  // ---- a mount without devices

  const nodev = seenWith(
    'mount --bind /dev/dma_heap /dev/dma_heap; mount -o remount,bind,nodev /dev/dma_heap',
  );

  accessTest('a mount with nodev is named, and not the modes, which allow it', () => {
    assert.equal(nodev.system?.code, 'EACCES');
    assert.match(hintOf(nodev), /lies on \/dev\/dma_heap, which is mounted with nodev/);
    assert.doesNotMatch(hintOf(nodev), /udev rule|usermod/);
  });

  accessTest('the examination says so as well', () => {
    assert.match(find(nodev.findings, 'heap system').fix ?? '', /nodev/);
  });

  const nodevPath = seenWith(
    "mkdir -p '/mnt/with space'; mount -t tmpfs -o nodev tmpfs '/mnt/with space'; touch '/mnt/with space/u'; " +
      "mount --bind /dev/udmabuf '/mnt/with space/u'; mount -o remount,bind,nodev '/mnt/with space/u'; " +
      "mount --bind '/mnt/with space/u' /dev/udmabuf",
  );

  accessTest('udmabuf on a mount with nodev is told the same', () => {
    const [attempt] = nodevPath.udmabuf?.attempts ?? [];
    assert.equal(attempt?.error.code, 'EACCES');
    assert.match(attempt?.error.hint ?? '', /lies on \/dev\/udmabuf, which is mounted with nodev/);
  });

  // ---- a group

  const group = readFileSync('/etc/group', 'utf8').match(/^(video):[^:]*:(\d+):/m);
  const gid = group?.[2] ?? '44';
  const forGroup = `${ownDevices}; chown root:${gid} /dev/dma_heap/system; chmod 660 /dev/dma_heap/system`;

  const outside = seenWith(`${forGroup}; ${asNobody}`);
  const inside = seenWith(`${forGroup}; export container=podman; ${asNobody}`);
  const member = seenWith(`${forGroup}; exec setpriv --reuid 65534 --regid 65534 --groups ${gid} "$@"`);

  accessTest("a device for a group's members names the group and its number", () => {
    const label = group === null ? gid : `video, ${gid}`;
    assert.match(hintOf(outside), new RegExp(`root and group ${label}, mode 0660`));
    assert.match(hintOf(outside), new RegExp(`usermod -aG (video|${gid}) nobody`));
    assert.doesNotMatch(hintOf(outside), /udev rule/);
  });

  accessTest("a container is told the group's number first", () => {
    assert.match(hintOf(inside), new RegExp(`0660\\. Start the container with --group-add ${gid}`));
  });

  accessTest('a member of the group may use the device', () => {
    assert.equal(member.system, undefined);
  });

  // ---- root that is none

  const userNamespace = seenWith(
    `${ownDevices}; chmod 600 /dev/dma_heap/system; exec setpriv --reuid 65534 --regid 65534 --clear-groups ` +
      'unshare --user --map-root-user "$@"',
  );

  accessTest('root of a user namespace is told that it is an ordinary user to the device', () => {
    assert.equal(userNamespace.system?.code, 'EACCES');
    assert.match(hintOf(userNamespace), /root of a user namespace/);
  });

  // ---- links and folders beside the devices

  const beside = seenWith(`
    ${ownDevices}
    ln -s /dev/udmabuf /dev/dma_heap/to-udmabuf
    ln -s system /dev/dma_heap/to-system
    mkdir /dev/dma_heap/made-by-docker`);

  accessTest('a link to udmabuf is no heap, and names the source', () => {
    assert.deepEqual(
      beside.list.map(({ name, accessible, error, aliases }) => [name, accessible, error, aliases]),
      [
        ['made-by-docker', false, 'ENOTTY', undefined],
        ['system', true, undefined, ['to-system']],
        ['to-udmabuf', false, 'ENOTTY', undefined],
      ],
    );
    const { hint } = beside.refused['/dev/dma_heap/to-udmabuf'] ?? {};
    assert.match(
      hint ?? '',
      /a link to \/dev\/udmabuf, is udmabuf, not a dma-buf heap: the source 'udmabuf'/,
    );
    assert.deepEqual([beside.udmabuf, beside.system, beside.any], [undefined, undefined, undefined]);
  });

  accessTest('what is no heap is not among those that an error names', () => {
    assert.match(beside.cma?.hint ?? '', /Heaps here: system\.$/);
  });

  const swapped = seenWith(
    `${ownDevices}; mount --bind /dev/null /dev/udmabuf; rm /dev/dma_heap/system; cp -a /dev/udmabuf /dev/dma_heap/system`,
  );

  accessTest('another device in the place of one is not asked for memory', () => {
    assert.deepEqual(
      swapped.any?.attempts?.map(({ error }) => [error.code, error.syscall]),
      [
        ['ENOTTY', 'open'],
        ['ENOTTY', 'open'],
      ],
    );
    assert.match(
      swapped.udmabuf?.message ?? '',
      /\/dev\/udmabuf is the device null \(1:3\), where udmabuf's device should be/,
    );
  });

  // ---- a device control group

  const denied = seenWith(`
    groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    group=$groups/dmabuf-denied-${process.pid}
    mkdir $group
    python3 ${programFile('deny_devices.py')} $group ${major}
    echo $$ > $group/cgroup.procs
    trap 'echo $$ > $groups/cgroup.procs; rmdir $group' EXIT; "$@"; exit`);

  accessTest('EPERM is told as the device control group, with what passes a device', () => {
    assert.equal(denied.system?.code, 'EPERM');
    assert.match(hintOf(denied), /device control group.*--device \/dev\/dma_heap\/system/);
    assert.match(hintOf(denied), new RegExp(`DeviceAllow=/dev/dma_heap/system.*c ${major}:\\d+ r`));
    assert.doesNotMatch(hintOf(denied), /udev rule|usermod/);
  });

  accessTest('the list and the examination go on', () => {
    assert.equal(denied.list.find(({ name }) => name === 'system')?.error, 'EPERM');
    const { status, fix } = find(denied.findings, 'heap system');
    assert.equal(status, 'warn');
    assert.match(fix ?? '', /--device/);
  });
}
