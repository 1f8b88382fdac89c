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

// Why a device that makes dma-bufs (a heap, /dev/udmabuf) cannot be opened, and what to do. open(2) has one errno for many
// causes: what tells them apart is looked at here, after the failure, and without rights of its own.

/** What is to be done where a device under `path` answered open(2) with `code`; undefined where that is not known. */
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
        ofContainers("; in a container, pass the host's device in anew")
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

/** What is to be done where there is no heap at all, or not the one that should be at `path`. */
export function adviceForNoHeaps(path = `${heapFolder}/system`): string[] {
  const config = adviceForConfig(optionsOf(path));
  return [
    ...(config === undefined ? adviceToPassHeap(path) : [config]),
    'To run a command on a kernel that has one: npx dmabuf vm -- COMMAND',
  ];
}

/** The alias of the library for whatever the contiguous heap is called. */
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

/** The options of the kernel that bring the device. */
function optionsOf(path: string): string[] {
  if (path === udmabufDevice) return ['CONFIG_UDMABUF'];
  const name = basename(path);
  if (name === 'system') return ['CONFIG_DMABUF_HEAPS', 'CONFIG_DMABUF_HEAPS_SYSTEM'];
  return path === contiguousAlias
    ? ['CONFIG_DMABUF_HEAPS', 'CONFIG_DMABUF_HEAPS_CMA']
    : ['CONFIG_DMABUF_HEAPS'];
}

/** No container and no module can bring what the kernel was built without. */
function adviceForConfig(options: readonly string[]): string | undefined {
  const missing = missingOption(options);
  return (
    missing && `This kernel was built without ${missing}, by ${kernelConfig()?.path}: run one that has it`
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

/** Of a link that leads nowhere. */
function adviceForLink(path: string, code: string): string | undefined {
  const target = linkOf(path);
  if (target === undefined) return undefined;
  const fault = code === 'ELOOP' ? 'and so on without end' : 'which is not there';
  return `${path} is a symbolic link to ${target}, ${fault}: remove it, as root, or have it lead to the device`;
}

/** Of what lies in the device's place. */
function adviceForStranger(path: string, kind: DeviceKind): string {
  const what = strangerAt(path, kind) ?? 'another device';
  const target = realPathOf(path);
  const where = target === path ? path : `${path}, a link to ${target},`;
  if (kind === 'heap' && strangerAt(path, 'udmabuf') === undefined && what.startsWith('the device')) {
    return `${where} is udmabuf and no dma-buf heap: the source 'udmabuf' allocates from it`;
  }
  if (kind === 'heap' && !path.startsWith(`${heapFolder}/`)) {
    return `${where} is ${what}, and no dma-buf heap; heaps are the devices under ${heapFolder}`;
  }
  if (what === 'a folder' && target === path) {
    return (
      `${path} is a folder. docker -v makes one where the host has no such file: remove it there and here, as root ` +
      `(rmdir ${path}), and pass the device by --device ${path} in place of -v, which tells when the host does not have it`
    );
  }
  return (
    `${where} is ${what}, where ${kind === 'heap' ? "a heap's device" : "udmabuf's device"} should be: remove it, as root, and ` +
    "have the kernel's own device there" +
    ofContainers('; in a container, pass it by --device')
  );
}

/** EPERM of open(2) on a device: neither mode bits nor mounts answer so. */
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
      `${path} lies on ${mount.point}, which is mounted with nodev, so that nobody may open devices there: ` +
      `--device ${path} in place of a volume (docker, podman), --dev-bind in place of --bind (bwrap), or as root ` +
      `mount -o remount,bind,dev ${mount.point}`
    );
  }
  if (!bitsAllow(status, 0o4)) return adviceForModes(path, status);
  return adviceForModule(path);
}

/** Modes of a folder that let nobody but its owner through: no rule for devices can mend that. */
function adviceForFolder(folder: string): Hint {
  const status = statusOf(folder);
  if (status === undefined || bitsAllow(status, 0o1)) return adviceForModule(folder) as string;
  return [
    `The folder ${folder} (${describeModes(status)}) may not be entered: as root, chmod 755 ${folder}`,
    'Rules for the devices in it come only after that',
  ];
}

/** What is to be done about a folder whose names may not be read. */
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
      `${who}, and root of a user namespace is an ordinary user there: let that user of the host into the group of the ` +
      "device, and keep the group in the container (podman: --group-add keep-groups); or set the device's mode on the host"
    );
  }
  if ((status.mode & 0o040) !== 0) {
    if (group !== undefined && isListedIn(group)) {
      return `${who}, and this user was added to that group after the session began: log in again, or newgrp ${group}`;
    }
    const add = `As root: usermod -aG ${group ?? status.gid} ${userName()}, then log in again`;
    const keep = `Start the container with --group-add ${status.gid}, the group's number on the host`;
    if (container() !== undefined) return [who, keep, `Outside of one: ${lowerFirst(add)}`];
    return [who, add, ...(isInVm() ? [] : [`In a container: ${lowerFirst(keep)}`])];
  }
  const rule = udevRuleFor(path);
  return container() === undefined
    ? rule
    : [rule, "That is for the host; start the container with --group-add and that group's number there"];
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

/** Modes and mounts would let this process through. */
function adviceForModule(path: string): string | undefined {
  const label = textOf('/proc/self/attr/current')?.replaceAll('\0', '').trim();
  const confined = label !== undefined && label !== '' && label !== 'unconfined' ? label : undefined;
  if (confined === undefined && !isRootOfNamespace()) {
    return `The modes of ${path} allow it: a security module (SELinux, AppArmor) or an access control list (getfacl ${path}) denies it`;
  }
  if (confined === undefined) {
    return `The modes of ${path} allow it, and a file system that was mounted in a user namespace has no devices: bind the host's device`;
  }
  return (
    `The modes of ${path} allow it, and this process is confined as '${confined}': see what was denied with ausearch -m avc ` +
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

/** Whether this is the guest of `dmabuf vm`, which has the machine's files, and their marks of a container, too. */
function isInVm(): boolean {
  return process.env.DMABUF_VM !== undefined;
}

/** What is to be said of containers, where this may be one. */
function ofContainers(text: string): string {
  return isInVm() && container() === undefined ? '' : text;
}

/** What kind of container this process runs in, as far as the usual marks tell; undefined for none. */
function container(): string | undefined {
  if (process.env.KUBERNETES_SERVICE_HOST !== undefined) return 'kubernetes';
  const name = process.env.container ?? (isInVm() ? undefined : markedContainer());
  return name === '' ? undefined : name;
}

/** What files say of it. */
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
  // Root of a namespace has power over files of its own users alone; those of the machine's look like nobody's.
  if (hasCapability('DAC_OVERRIDE') && !(isRootOfNamespace() && uid === 65534)) return true;
  if (uid === euid) return ((mode >> 6) & bits) === bits;
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  return ((groups.includes(gid) ? mode >> 3 : mode) & bits) === bits;
}

/** The mount that a path's file is reached through, and whether devices may be opened there. */
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
    return undefined; // No /proc, or no descriptor left: what else is known has to do.
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
