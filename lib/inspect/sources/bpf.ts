import { resolve } from 'node:path';
import { createError, DmaBufError } from '../../errors.js';
import { native } from '../../native.js';
import { whyRootMayNot } from '../../rights.js';
import { textOf } from '../../text-file.js';
import { nodesThread, onThreadPool, type Survey, toSurvey } from './survey.js';

/** Where `pinSync()` places iterators, and `snapshot()` looks for them, unless told otherwise. */
export const defaultPinFolder = '/sys/fs/bpf/dmabuf';

function isLockedDown(): boolean {
  return textOf('/sys/kernel/security/lockdown')?.includes('[confidentiality]') === true;
}

function unsupported(text: string, syscall: string): DmaBufError {
  const code = 'ERR_DMABUF_UNSUPPORTED_KERNEL';
  return new DmaBufError(`${code}: ${text}`, { code, syscall });
}

const rights =
  'Loading a BPF iterator needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: run as root, or let root place it once ' +
  'where others may read it: dmabuf pin';

/** What the failure of a call means here, and what to do. `path`: the pinned file or folder that is responsible. */
function explain(errno: number, syscall: string, path?: string): DmaBufError {
  switch (syscall) {
    case 'bpf_iter_dmabuf':
      return unsupported(
        'this kernel cannot list its dma-bufs: the BPF iterator exists since Linux 6.16',
        syscall,
      );
    case 'dmabuf_iter_priv':
      return unsupported('the BPF iterator of this kernel loses buffers: Linux 6.18 fixes it', syscall);
    case 'bpf_iter_task_file':
    case 'bpf_iter_task_vma':
      return unsupported(
        'this kernel has no BPF iterator over the files or mappings of processes (Linux 5.12)',
        syscall,
      );
    case 'pid_namespaces':
      return unsupported(
        'BPF iterators know processes by the ids of the first PID namespace, and this process is in another',
        syscall,
      );
    case '/sys/kernel/btf/vmlinux':
      return unsupported(
        'this kernel describes its types in a form that this library does not know',
        syscall,
      );
  }
  const { code } = createError(errno, syscall);
  if (path !== undefined) return explainPinned(code, errno, syscall, path);
  return createError(errno, syscall, undefined, adviceOn(code, syscall));
}

/** What is wrong with a pinned iterator, its folder or a parent folder, and what to do. */
function explainPinned(code: string, errno: number, syscall: string, path: string): DmaBufError {
  const refuse = (name: string, text: string, hint?: string): DmaBufError =>
    new DmaBufError(`${name}: '${path}' ${text}`, { code: name, errno, syscall, path, hint });
  switch (`${syscall} ${code}`) {
    case 'fstat EPERM':
      return refuse(
        code,
        'cannot be trusted: it belongs to neither root nor this user, or others may write it',
        'Let root remove it and run dmabuf pin again, in a folder that only root may write',
      );
    case 'fstatfs EINVAL':
      return refuse(
        code,
        'is not in a BPF file system',
        'Choose a folder in one, or mount one as root: mount -t bpf bpf /sys/fs/bpf',
      );
    case 'openat ENOTDIR':
      return refuse(code, 'is a symbolic link or not a folder', 'Use the real path of the folder');
    case 'openat EPROTO':
    case 'openat ELOOP':
    case 'fstat EPROTO':
    case 'read EPROTO':
      return refuse('EPROTO', 'is not what dmabuf pin places there');
    case 'BPF_OBJ_PIN EEXIST':
      return refuse(code, 'is not what dmabuf pin places there, and was left alone', 'Choose another folder');
    case 'read EFBIG':
    case 'read EAGAIN':
      return refuse(code, 'does not end');
    default:
      return createError(errno, syscall, path);
  }
}

/** An error of the addon with its meaning here and what to do; any other error unchanged. */
export function explainBpf(error: unknown): unknown {
  if (!(error instanceof DmaBufError)) return error;
  const { errno, syscall, path } = error;
  return errno === undefined || syscall === undefined ? error : explain(errno, syscall, path);
}

function adviceOn(code: string, syscall: string): string | undefined {
  if (syscall === 'BPF_PROG_LOAD' && (code === 'EPERM' || code === 'EACCES')) {
    return whyRootMayNot('BPF', 'PERFMON') ?? rights;
  }
  if (syscall === 'BPF_PROG_LOAD' && code === 'EINVAL' && isLockedDown()) {
    return 'The kernel is locked down (confidentiality), which forbids BPF programs from reading strings';
  }
  if (syscall === 'BPF_PROG_LOAD' && code === 'ENOSYS')
    return 'This kernel was built without CONFIG_BPF_SYSCALL';
  if (syscall === 'read' && code === 'ETIMEDOUT') {
    return 'A process keeps its memory map locked (most likely a file system that it uses does not answer), and the iterator waits for it';
  }
  if (syscall === 'open' && code === 'ENOENT') {
    return 'There is no /sys/kernel/btf/vmlinux: this kernel was built without CONFIG_DEBUG_INFO_BTF, or sysfs is not mounted';
  }
  return undefined;
}

/** What to read, of which only holders have a place in other PID namespaces. */
export interface BpfParts {
  buffers: boolean;
  holders: boolean;
}

/** Loads and reads the iterators. */
export async function surveyBpf({ buffers, holders }: BpfParts): Promise<Survey> {
  return toSurvey(
    'bpf',
    await onThreadPool((done) => native.surveyBpf('', buffers, holders, nodesThread, done), explain),
  );
}

/**
 * Reads the iterators that root or this user has pinned in a folder; files that other users could have placed there are
 * refused.
 */
export async function surveyPinned(folder: string, { buffers, holders }: BpfParts): Promise<Survey> {
  const start = (done: Parameters<typeof native.surveyBpf>[4]): void =>
    native.surveyBpf(resolve(folder), buffers, holders, nodesThread, done);
  return toSurvey('bpf', await onThreadPool(start, explainReading));
}

/** For a reader, a folder outside a BPF file system is as wrong as a file of another kind. */
function explainReading(errno: number, syscall: string, path?: string): DmaBufError {
  const error = explain(errno, syscall, path);
  if (path === undefined || `${syscall} ${error.code}` !== 'fstatfs EINVAL') return error;
  const text = `'${path}' is not in a BPF file system, where dmabuf pin places iterators`;
  return new DmaBufError(`EPROTO: ${text}`, { code: 'EPROTO', syscall, path });
}
