import { access, constants } from 'node:fs/promises';
import { release } from 'node:os';
import { DmaBufError, type Hint, partsOf, textOfHint } from '../errors.js';
import { configured, kernelConfig } from '../kernel-config.js';
import { adviceForNoHeaps } from '../memory/device-advice.js';
import { heapFolder } from '../memory/device-files.js';
import { udmabufLimit } from '../memory/memfd.js';
import {
  chargesHeaps,
  contiguousTotal,
  groupLimit,
  type MemoryLimit,
  machineLimit,
} from '../memory/memory-limits.js';
import { native } from '../native.js';
import { hasCapability } from '../rights.js';
import { textOf } from '../text-file.js';
import { listDevices, type MemoryDevice } from './devices.js';
import type { Unreadable } from './model.js';
import { defaultPinFolder, surveyBpf, surveyPinned } from './sources/bpf.js';
import { surveyDebugfs } from './sources/debugfs.js';
import { surveyProcfs, whatProcHides } from './sources/procfs.js';
import { adviceOnUnreadable, causesOf } from './unreadable.js';

/** The result of one check. */
export interface Finding {
  /** The subject of the check: `'kernel'`, `'heap system'`, `'bpf'`, … */
  subject: string;
  /** `'ok'`; `'warn'`: something useful does not work; `'fail'`: something essential does not. */
  status: 'ok' | 'warn' | 'fail';
  /** What was found. */
  text: string;
  /** What to do about it, in whole sentences, if this is known: if an error was the reason, its `hint`. */
  fix?: string;
}

const ok = (subject: string, text: string): Finding => ({ subject, status: 'ok', text });

function bad(status: 'warn' | 'fail', subject: string, text: string, fix?: Hint): Finding {
  return fix === undefined ? { subject, status, text } : { subject, status, text, fix: textOfHint(fix) };
}

/** The kernel versions that the library's features need, newest first. */
const milestones = [
  ['6.18', 'listing of all dma-bufs by BPF'],
  ['6.0', 'fences as files (exportSyncFile, importSyncFile)'],
  ['5.15', 'the inode in fdinfo'],
] as const;

function isBefore(version: string, other: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const [otherMajor = 0, otherMinor = 0] = other.split('.').map(Number);
  return major < otherMajor || (major === otherMajor && minor < otherMinor);
}

function examineKernel(version: string): Finding {
  if (isBefore(version, '5.6')) {
    return bad('fail', 'kernel', `Linux ${version} has no dma-buf heaps`, 'Run Linux 5.6 or later');
  }
  const missing = milestones.filter(([since]) => isBefore(version, since));
  const [first] = missing;
  if (first === undefined) return ok('kernel', `Linux ${version}`);
  const what = missing.map(([since, feature]) => `${feature} (Linux ${since})`).join('; ');
  return bad('warn', 'kernel', `Linux ${version} lacks ${what}`, `Run Linux ${first[0]} or later`);
}

const configItems = [
  ['CONFIG_DMABUF_HEAPS', 'dma-buf heaps'],
  ['CONFIG_DMABUF_HEAPS_SYSTEM', 'the system heap'],
  ['CONFIG_DMABUF_HEAPS_CMA', 'the heap of contiguous memory'],
  ['CONFIG_UDMABUF', '/dev/udmabuf'],
  ['CONFIG_SYNC_FILE', 'fences as files'],
  ['CONFIG_BPF_SYSCALL', 'listing by BPF'],
  ['CONFIG_DEBUG_INFO_BTF', 'listing by BPF'],
  ['CONFIG_DEBUG_FS', 'listing by debugfs'],
] as const;

function examineConfig(version: string): Finding[] {
  const config = kernelConfig();
  if (config === undefined) {
    const fix =
      'Run modprobe configs, as root, if the kernel has CONFIG_IKCONFIG; what matters is tried below anyway';
    return [bad('warn', 'config', `neither /proc/config.gz nor /boot/config-${version} can be read`, fix)];
  }
  return configItems.map(([item, use]) => {
    const value = configured(config, item);
    const text = `${item}=${value} (${use}), according to ${config.path}`;
    return value === 'n'
      ? bad('warn', 'config', text, `Run a kernel built with ${item}`)
      : ok('config', text);
  });
}

function examineDevices(devices: readonly MemoryDevice[]): Finding[] {
  const findings = devices.map(({ name, path, kind, accessible, error, fix }) => {
    if (path === heapFolder) return bad('fail', 'heaps', `${path} cannot be listed: ${error}`, fix);
    const subject = kind === 'udmabuf' ? 'udmabuf' : `heap ${name}`;
    return accessible ? ok(subject, `${path} can be used`) : bad('warn', subject, `${path}: ${error}`, fix);
  });
  if (devices.every(({ kind }) => kind === 'udmabuf')) {
    findings.unshift(bad('warn', 'heaps', `there is no heap under ${heapFolder}`, adviceForNoHeaps()));
  }
  const usable = devices.filter(({ accessible }) => accessible).map(({ name }) => name);
  if (usable.length > 0) return [...findings, ok('allocate', `memory can come from ${usable.join(', ')}`)];
  return [
    ...findings,
    bad('fail', 'allocate', 'this user cannot allocate dma-bufs', 'See the heaps and udmabuf above'),
  ];
}

function examineUdmabufLimits(): Finding[] {
  const folder = '/sys/module/udmabuf/parameters';
  const [list, size] = [udmabufLimit('list_limit'), udmabufLimit('size_limit_mb')];
  if (textOf(`${folder}/list_limit`) === undefined) return [];
  const bytes = size === Number.POSITIVE_INFINITY ? 'any size' : `${size} MiB`;
  const pieces = list === Number.POSITIVE_INFINITY ? 'any number of pieces' : `at most ${list} pieces`;
  return [ok('udmabuf limits', `${bytes} for a buffer (${folder}/size_limit_mb), in ${pieces} (list_limit)`)];
}

/** Which limits the memory guard applies. */
function examineMemory(): Finding[] {
  const describe = ({ available, counter }: MemoryLimit): string =>
    `${Math.floor(available / 2 ** 20)} MiB are available (${counter})`;
  const machine = machineLimit();
  const group = groupLimit();
  const charged = group !== undefined && group.available < machine.available ? group : machine;
  const findings = [
    ok('memory of the system heap', describe(chargesHeaps() ? charged : machine)),
    ok('memory of udmabuf', describe(charged)),
  ];
  if (contiguousTotal() > 0) {
    const text = `${contiguousTotal() / 2 ** 20} MiB (CmaTotal), including what programs and page cache use until it is needed`;
    findings.push(ok('contiguous memory', text));
  }
  return findings;
}

/** The kernel's refusal, and what to do about it. */
function refusal(subject: string, error: unknown, fallback?: string): Finding {
  if (!(error instanceof DmaBufError)) throw error;
  return bad('warn', subject, partsOf(error).what, error.hint ?? fallback);
}

async function failureOf(attempt: () => Promise<unknown>): Promise<unknown> {
  try {
    await attempt();
    return undefined;
  } catch (error) {
    return error;
  }
}

async function examineBpf(pinned: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  const btf = '/sys/kernel/btf/vmlinux';
  const hasBtf = (await failureOf(() => access(btf, constants.R_OK))) === undefined;
  findings.push(
    hasBtf
      ? ok('btf', `${btf} describes the kernel's types`)
      : bad('warn', 'btf', `${btf} cannot be read`, 'Run a kernel built with CONFIG_DEBUG_INFO_BTF'),
  );
  const refused = await failureOf(() => surveyBpf({ buffers: true, holders: true }));
  const isLoaded = refused === undefined;
  if (isLoaded) findings.push(ok('bpf', 'the iterators over dma-bufs and their holders can be loaded'));
  else findings.push(refusal('bpf', refused));
  const buffers = await failureOf(() => surveyPinned(pinned, { buffers: true, holders: false }));
  const both = await failureOf(() => surveyPinned(pinned, { buffers: true, holders: true }));
  if (both === undefined)
    findings.push(ok('pinned', `iterators over dma-bufs and their holders are in ${pinned}`));
  else if (buffers === undefined)
    findings.push(ok('pinned', `an iterator over dma-bufs is in ${pinned}, none over holders`));
  else if (isLoaded && (buffers as DmaBufError).code === 'ENOENT')
    findings.push(ok('pinned', `nothing is in ${pinned}; not needed here`));
  else
    findings.push(
      refusal('pinned', buffers, 'Run dmabuf pin --holders, as root: it lets others list dma-bufs'),
    );
  return findings;
}

async function examineDebugfs(): Promise<Finding> {
  try {
    const { buffers } = await surveyDebugfs();
    return ok('debugfs', `bufinfo can be read: ${buffers.size} dma-bufs, with the devices that are attached`);
  } catch (error) {
    return refusal('debugfs', error);
  }
}

/** The finding about processes, from those that could not be read. */
export function findingOnProcesses(unreadable: readonly Unreadable[]): Finding {
  const subject = 'processes';
  if (unreadable.length === 0)
    return ok(subject, 'the descriptors and mappings of every visible process can be read');
  const causes = causesOf(unreadable).join(', ');
  const text = `${unreadable.length} of the visible processes could not be read (${causes})`;
  return bad('warn', subject, text, adviceOnUnreadable(unreadable));
}

async function examineProcesses(): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    findings.push(findingOnProcesses((await surveyProcfs()).unreadable));
  } catch (error) {
    findings.push({ ...refusal('processes', error), status: 'fail' });
  }
  const hidden = await whatProcHides();
  findings.push(
    hidden === undefined ? ok('hidepid', '/proc shows every process') : refusal('hidepid', hidden),
  );
  return findings;
}

function examinePtrace(): Finding[] {
  const subject = 'ptrace scope';
  const path = '/proc/sys/kernel/yama/ptrace_scope';
  const scope = textOf(path)?.trim();
  if (scope === undefined || scope === '0') {
    return [ok(subject, 'importFrom() may take buffers from processes of the same user')];
  }
  const text = `${path} is ${scope}:`;
  if (hasCapability('SYS_PTRACE') && scope !== '3')
    return [ok(subject, `${text} it does not restrict CAP_SYS_PTRACE`)];
  if (scope === '1') {
    const fix = 'Run sysctl kernel.yama.ptrace_scope=0, as root, or send buffers over a DmaBufChannel';
    return [bad('warn', subject, `${text} importFrom() takes buffers only from child processes`, fix)];
  }
  const fix = 'Send buffers over a DmaBufChannel';
  return [
    bad(
      'warn',
      subject,
      `${text} importFrom() is ${scope === '3' ? 'forbidden to all processes' : 'reserved for root'}`,
      fix,
    ),
  ];
}

function examineLimits(): Finding[] {
  const limits = textOf('/proc/self/limits') ?? '';
  const [, soft, hard] = /^Max open files\s+(\w+)\s+(\w+)/m.exec(limits) ?? [];
  if (soft === undefined) return [];
  const text = `${soft} descriptors for each process, at most ${hard}: every open buffer takes one`;
  if (soft === 'unlimited' || Number(soft) >= 1024) return [ok('descriptors', text)];
  return [bad('warn', 'descriptors', text, `Raise the limit: ulimit -n ${hard}`)];
}

function examineLockdown(): Finding {
  const mode = /\[(\w+)\]/.exec(textOf('/sys/kernel/security/lockdown') ?? '')?.[1] ?? 'none';
  if (mode === 'none') return ok('lockdown', 'the kernel is not locked down');
  const text = `the kernel is locked down (${mode})`;
  if (mode !== 'confidentiality') return ok('lockdown', text);
  const fix = 'debugfs still lists dma-bufs; boot without lockdown=, or without secure boot';
  return bad('warn', 'lockdown', `${text}: BPF may not read the names of dma-bufs`, fix);
}

/**
 * Examines everything on this machine that dma-bufs need, and says what does not work and how to fix it. It changes
 * nothing.
 *
 * ```js
 * for (const { subject, status, fix } of await examine()) if (status !== 'ok') console.log(subject, fix);
 * ```
 */
export async function examine(): Promise<Finding[]> {
  const version = release();
  const addon = await examined('addon', () => [ok('addon', `loaded from ${native.path}`)]);
  const findings = [
    ...addon,
    examineKernel(version),
    ...(await examined('config', () => examineConfig(version))),
  ];
  // Everything below needs the addon.
  if (addon[0]?.status === 'fail') return findings;
  const looks: [string, () => Finding[] | Promise<Finding[]>][] = [
    ['heaps', () => examineDevices(listDevices())],
    ['udmabuf limits', examineUdmabufLimits],
    ['memory', examineMemory],
    ['bpf', () => examineBpf(defaultPinFolder)],
    ['debugfs', async () => [await examineDebugfs()]],
    ['processes', examineProcesses],
    ['ptrace scope', examinePtrace],
    ['descriptors', examineLimits],
    ['lockdown', () => [examineLockdown()]],
  ];
  for (const [subject, look] of looks) findings.push(...(await examined(subject, look)));
  return findings;
}

/** The findings of one check; a check that fails is itself a finding, and does not stop the others. */
async function examined(subject: string, look: () => Finding[] | Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await look();
  } catch (error) {
    return [
      error instanceof DmaBufError
        ? { ...refusal(subject, error), status: 'fail' }
        : bad('fail', subject, String(error)),
    ];
  }
}
