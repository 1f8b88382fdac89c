import { closeSync, openSync, type Stats, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { basename, dirname } from 'node:path';
import { createError, DmaBufError, type Hint } from '../errors.js';
import { kernelConfig, missingOption } from '../kernel-config.js';
import { hasCapability, isRootOfNamespace } from '../rights.js';
import { textOf } from '../text-file.js';
import {
  type DeviceKind,
  deviceNumberOf,
  heapFolder,
  linkOf,
  realPathOf,
  statusOf,
  strangerAt,
  udmabufDevice,
} from './device-files.js';

// Why a device that makes dma-bufs (a heap, /dev/udmabuf) cannot be opened, and what to do. open(2) has one errno for
// many causes. The code here finds the cause after the failure, without special rights.

/** What to do when open(2) of the device at `path` failed with `code`; undefined if this is not known. */
export function deviceAdvice(code: string, path: string, kind: DeviceKind = 'heap'): Hint | undefined {
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ELOOP':
      return adviceForLink(path, code) ?? adviceForMissing(path);
    case 'ENXIO':
    case 'ENODEV':
      return (
        `No driver answers to the device number of ${path}: load the module that made it, as root, or remove the file` +
        ofContainers("; in a container, pass the host's device in again")
      );
    case 'EPERM':
      return adviceForDenied(path);
    case 'EACCES':
      return adviceForRefused(path);
    case 'ENOTTY':
      return adviceForStranger(path, kind);
    default:
      return undefined;
  }
}

/** What to do when there is no heap at all, or not the one at `path`. */
export function adviceForNoHeaps(path = `${heapFolder}/system`): string[] {
  const config = adviceForConfig(optionsOf(path));
  return [
    ...(config === undefined ? adviceToPassHeap(path) : [config]),
    'To run a command on a kernel that has one: npx dmabuf vm -- COMMAND',
  ];
}

/** The library's alias for the contiguous heap, whose real name varies. */
const contiguousAlias = `${heapFolder}/cma`;

/** Its name since Linux 6.17. */
const contiguousDevice = `${heapFolder}/default_cma_region`;

function adviceToPassHeap(path: string): string[] {
  const heap =
    path === contiguousAlias
      ? `${passIn(contiguousDevice)} (its name on Linux before 6.17 varies)`
      : passIn(path);
  return [
    ...(container() === undefined ? [] : [`${heap}, if the host has it`]),
    `Heaps exist since Linux 5.6, with ${optionsOf(path).join(' and ')}`,
  ];
}

/** The kernel's options that provide the device. */
function optionsOf(path: string): string[] {
  if (path === udmabufDevice) return ['CONFIG_UDMABUF'];
  const name = basename(path);
  if (name === 'system') return ['CONFIG_DMABUF_HEAPS', 'CONFIG_DMABUF_HEAPS_SYSTEM'];
  return path === contiguousAlias
    ? ['CONFIG_DMABUF_HEAPS', 'CONFIG_DMABUF_HEAPS_CMA']
    : ['CONFIG_DMABUF_HEAPS'];
}

/** If the kernel was built without an option, neither a container nor a module can provide the device. */
function adviceForConfig(options: readonly string[]): string | undefined {
  const missing = missingOption(options);
  return (
    missing &&
    `This kernel was built without ${missing}, according to ${kernelConfig()?.path}: run one that has it`
  );
}

/** Runs a call that opens the device at `path`; when that fails, the error says what to do about this device. */
export function withDeviceAdvice<T>(path: string, kind: DeviceKind, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof DmaBufError) || error.syscall !== 'open' || error.errno === undefined) throw error;
    throw createError(error.errno, error.syscall, path, deviceAdvice(error.code, path, kind));
  }
}

function adviceForMissing(path: string): Hint | undefined {
  if (path === udmabufDevice) {
    const load = 'modprobe udmabuf (Linux 4.20, CONFIG_UDMABUF)';
    const config = adviceForConfig(optionsOf(path));
    if (config !== undefined) return config;
    return container() === undefined
      ? `Load the module, as root: ${load}`
      : `${passIn(path)}; the host may have to load the module first: ${load}`;
  }
  if (!path.startsWith(`${heapFolder}/`)) return undefined;
  const folder = statusOf(heapFolder);
  if (folder === undefined) return adviceForLink(heapFolder, 'ENOENT') ?? adviceForNoHeaps(path);
  if (!folder.isDirectory()) return adviceForUnlistable(heapFolder);
  const config = adviceForConfig(optionsOf(path));
  if (config !== undefined) return config;
  if (path === contiguousAlias) {
    return (
      'This kernel has no contiguous heap (CONFIG_DMABUF_HEAPS_CMA, and memory that cma= on the kernel command line sets ' +
      'aside)' +
      ofContainers(
        `; in a container, pass the device in: --device ${contiguousDevice} (its name on Linux before 6.17 varies)`,
      )
    );
  }
  return (
    'This kernel has no such heap (CONFIG_DMABUF_HEAPS_SYSTEM, CONFIG_DMABUF_HEAPS_CMA)' +
    ofContainers(`; in a container, pass the device in: --device ${path}`)
  );
}

/** Advice about a link that leads nowhere. */
function adviceForLink(path: string, code: string): string | undefined {
  const target = linkOf(path);
  if (target === undefined) return undefined;
  const fault = code === 'ELOOP' ? 'in an endless loop of links' : 'which does not exist';
  return `${path} is a symbolic link to ${target}, ${fault}: remove it, as root, or let it point to the device`;
}

/** Advice about a file of another kind in the place of the device. */
function adviceForStranger(path: string, kind: DeviceKind): string {
  const what = strangerAt(path, kind) ?? 'another device';
  const target = realPathOf(path);
  const where = target === path ? path : `${path}, a link to ${target},`;
  if (kind === 'heap' && strangerAt(path, 'udmabuf') === undefined && what.startsWith('the device')) {
    return `${where} is udmabuf, not a dma-buf heap: the source 'udmabuf' allocates from it`;
  }
  if (kind === 'heap' && !path.startsWith(`${heapFolder}/`)) {
    return `${where} is ${what}, not a dma-buf heap; heaps are the devices under ${heapFolder}`;
  }
  if (what === 'a folder' && target === path) {
    return (
      `${path} is a folder. docker -v creates one when the host has no such file: remove it on the host and here, as root ` +
      `(rmdir ${path}), and pass the device by --device ${path} instead of -v; this fails when the host does not have the device`
    );
  }
  return (
    `${where} is ${what}, where ${kind === 'heap' ? "a heap's device" : "udmabuf's device"} should be: remove it, as root, and ` +
    "let the kernel's own device take its place" +
    ofContainers('; in a container, pass it by --device')
  );
}

/** Advice about EPERM of open(2) on a device: neither mode bits nor mounts cause this errno. */
function adviceForDenied(path: string): string {
  const device = deviceNumberOf(statusOf(path));
  const rule = device === undefined ? path : `c ${device} r`;
  return (
    "The device control group denies it: a container's devices must be passed, not mounted: " +
    `--device ${path} (docker, podman), a device plugin (Kubernetes), DeviceAllow=${path} (a systemd unit), ` +
    `lxc.cgroup2.devices.allow = ${rule} (LXC)`
  );
}

function adviceForRefused(path: string): Hint | undefined {
  const folder = closedFolderOf(path);
  if (folder !== undefined) return adviceForFolder(folder);
  const status = statusOf(path);
  if (status === undefined) return undefined;
  // The kernel looks at the mount first.
  const mount = status.isCharacterDevice() ? mountOf(path) : undefined;
  if (mount?.nodev) {
    return (
      `${path} lies on ${mount.point}, which is mounted with nodev, so that devices cannot be opened there: ` +
      `use --device ${path} instead of a volume (docker, podman), --dev-bind instead of --bind (bwrap), or as root ` +
      `mount -o remount,bind,dev ${mount.point}`
    );
  }
  if (!bitsAllow(status, 0o4)) return adviceForModes(path, status);
  return adviceForModule(path);
}

/** Advice about the mode of a folder that allows only its owner: no rule for devices can fix that. */
function adviceForFolder(folder: string): Hint {
  const status = statusOf(folder);
  if (status === undefined || bitsAllow(status, 0o1)) return adviceForModule(folder) as string;
  return [
    `The folder ${folder} (${describeModes(status)}) may not be entered: as root, chmod 755 ${folder}`,
    'Rules for the devices in the folder have an effect only after that',
  ];
}

/** What to do about a folder whose names may not be read. */
export function adviceForUnlistable(folder: string): Hint | undefined {
  const closed = closedFolderOf(`${folder}/.`);
  if (closed !== undefined) return adviceForFolder(closed);
  const status = statusOf(folder);
  if (status === undefined) return adviceForLink(folder, 'ENOENT');
  if (!status.isDirectory()) {
    return `${folder} is ${strangerAt(folder, 'heap')}, where the folder of the heaps should be: remove it, as root`;
  }
  if (bitsAllow(status, 0o4)) return adviceForModule(folder);
  return `The folder ${folder} (${describeModes(status)}) may not be listed: as root, chmod 755 ${folder}`;
}

function adviceForModes(path: string, status: Stats): Hint {
  const group = groupName(status.gid);
  const who = `${path} is for ${describeModes(status)}`;
  if (isRootOfNamespace()) {
    return (
      `${who}, and root of a user namespace is an ordinary user on the host: add that user of the host to the group of the ` +
      "device, and keep the group in the container (podman: --group-add keep-groups); or set the device's mode on the host"
    );
  }
  if ((status.mode & 0o040) !== 0) {
    if (group !== undefined && isListedIn(group)) {
      return `${who}, and this user was added to that group after the session began: log in again, or newgrp ${group}`;
    }
    const add = `As root: usermod -aG ${group ?? status.gid} ${userName()}, then log in again`;
    const keep = `Start the container with --group-add ${status.gid}, the group's number on the host`;
    if (container() !== undefined) return [who, keep, `Outside a container: ${lowerFirst(add)}`];
    return [who, add, ...(isInVm() ? [] : [`In a container: ${lowerFirst(keep)}`])];
  }
  const rule = udevRuleFor(path);
  return container() === undefined
    ? rule
    : [rule, "That is for the host; start the container with --group-add and the group's number on the host"];
}

function udevRuleFor(path: string): string {
  const isHeap = path.startsWith(heapFolder);
  const match = isHeap ? 'SUBSYSTEM=="dma_heap"' : `KERNEL=="${basename(path)}"`;
  const [group, file] = isHeap ? ['video', '99-dma-heap'] : ['kvm', `99-${basename(path)}`];
  const trigger = isHeap ? '--subsystem-match=dma_heap' : `--name-match=${basename(path)}`;
  return (
    `Give a group access with a udev rule, as root: echo '${match}, GROUP="${group}", MODE="0660"' > ` +
    `/etc/udev/rules.d/${file}.rules && udevadm control --reload && udevadm trigger ${trigger}; then add the user to that ` +
    'group'
  );
}

/** Advice when modes and mounts would allow this process. */
function adviceForModule(path: string): string | undefined {
  const label = textOf('/proc/self/attr/current')?.replaceAll('\0', '').trim();
  const confined = label !== undefined && label !== '' && label !== 'unconfined' ? label : undefined;
  if (confined === undefined && !isRootOfNamespace()) {
    return `The mode of ${path} allows it: a security module (SELinux, AppArmor) or an access control list (getfacl ${path}) denies it`;
  }
  if (confined === undefined) {
    return `The mode of ${path} allows it, but a file system that was mounted in a user namespace has no devices: bind the host's device`;
  }
  return (
    `The mode of ${path} allows it, but this process is confined as '${confined}': see what was denied with ausearch -m avc ` +
    '-ts recent (SELinux) or journalctl -k (AppArmor), and allow it in the policy' +
    ofContainers('; of a container: --security-opt label=disable, or apparmor=unconfined, to try')
  );
}

function passIn(path: string): string {
  const how = {
    kubernetes: 'by a device plugin (a hostPath volume alone is denied by the device control group)',
    lxc: `by lxc.mount.entry and lxc.cgroup2.devices.allow`,
    flatpak: 'by --device=all',
  }[container() ?? ''];
  return `Pass the device into the container ${how ?? `by --device ${path}`}`;
}

/** Whether this is the guest of `dmabuf vm`, which sees the machine's files, including those that mark a container. */
function isInVm(): boolean {
  return process.env.DMABUF_VM !== undefined;
}

/** Returns advice about containers, if this process may be in one. */
function ofContainers(text: string): string {
  return isInVm() && container() === undefined ? '' : text;
}

/** What kind of container this process runs in, according to the usual marks; undefined for none. */
function container(): string | undefined {
  if (process.env.KUBERNETES_SERVICE_HOST !== undefined) return 'kubernetes';
  const name = process.env.container ?? (isInVm() ? undefined : markedContainer());
  return name === '' ? undefined : name;
}

/** The kind of container according to files. */
function markedContainer(): string | undefined {
  if (statusOf('/.flatpak-info') !== undefined) return 'flatpak';
  if (statusOf('/run/.containerenv') !== undefined) return 'podman';
  if (statusOf('/.dockerenv') !== undefined) return 'docker';
  return textOf('/run/systemd/container')?.trim();
}

/** The outermost folder on the way to `path` that this process may not enter. */
function closedFolderOf(path: string): string | undefined {
  const folders: string[] = [];
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    folders.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  return folders.find((folder) => codeOf(() => statSync(`${folder}/.`)) === 'EACCES');
}

/** Whether mode bits and owner let this process through for all of `bits` (4: read, 1: search), as the kernel decides. */
function bitsAllow({ mode, uid, gid }: Stats, bits: number): boolean {
  const euid = process.geteuid?.();
  // Root of a namespace has power only over files of the namespace's users; files of other users appear to belong to
  // nobody.
  if (hasCapability('DAC_OVERRIDE') && !(isRootOfNamespace() && uid === 65534)) return true;
  if (uid === euid) return ((mode >> 6) & bits) === bits;
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  return ((groups.includes(gid) ? mode >> 3 : mode) & bits) === bits;
}

/** The mount through which a file is reached, and whether devices may be opened there. */
function mountOf(path: string): { point: string; nodev: boolean } | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(path, openPath);
    const id = /^mnt_id:\t(\d+)$/m.exec(textOf(`/proc/self/fdinfo/${fd}`) ?? '')?.[1];
    const lines = (textOf('/proc/self/mountinfo') ?? '').split('\n');
    // mount id, parent, device, root, mount point, options
    const fields = lines.map((line) => line.split(' ')).find(([mount]) => mount === id);
    if (fields === undefined) return undefined;
    const [, , , , point = '', options = ''] = fields;
    return { point: unescapeOctal(point), nodev: options.split(',').includes('nodev') };
  } catch {
    return undefined; // No /proc, or no descriptor left: what is known otherwise has to suffice.
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** O_PATH | O_CLOEXEC: reaches the file without opening the device. */
const openPath = 0o10000000 | 0o2000000;

/** mountinfo writes white space and backslashes in octal. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

function describeModes({ mode, uid, gid }: Stats): string {
  const owner = uid === 0 ? 'root' : `user ${uid}`;
  const group = groupName(gid);
  return `${owner} and group ${group === undefined ? gid : `${group}, ${gid}`}, mode 0${(mode & 0o7777).toString(8)}`;
}

/** A line of /etc/group: name, password, number, members. */
function groupEntry(matches: (fields: string[]) => boolean): string[] | undefined {
  return (textOf('/etc/group') ?? '')
    .split('\n')
    .map((line) => line.split(':'))
    .find((fields) => fields.length >= 3 && matches(fields));
}

function groupName(gid: number): string | undefined {
  return groupEntry(([, , number]) => number === String(gid))?.[0];
}

function isListedIn(group: string): boolean {
  const members = groupEntry(([name]) => name === group)?.[3]?.split(',') ?? [];
  return members.includes(userName());
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return '$USER'; // A user without an entry in /etc/passwd, as in many containers.
  }
}

function codeOf(call: () => void): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
