import { readFileSync } from 'node:fs';
import { createError, DmaBufError } from '../errors.js';
import { native } from '../native.js';
import { onThreadPool, type Survey, toSurvey } from './survey.js';

/** Where `pinSync()` places iterators, and `snapshot()` looks for them, unless told otherwise. */
export const defaultPinFolder = '/sys/fs/bpf/dmabuf';

function isLockedDown(): boolean {
  try {
    return readFileSync('/sys/kernel/security/lockdown', 'latin1').includes('[confidentiality]');
  } catch {
    return false;
  }
}

function unsupported(text: string, syscall: string): DmaBufError {
  const code = 'ERR_DMABUF_UNSUPPORTED_KERNEL';
  return new DmaBufError(`${code}: ${text}`, { code, syscall });
}

const rights =
  'Loading a BPF iterator needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: run as root, or have root place it once ' +
  'where others may read it: dmabuf pin';

/** What the failure of a call means here, and what to do. */
function explain(errno: number, syscall: string): DmaBufError {
  switch (syscall) {
    case 'bpf_iter_dmabuf':
      return unsupported(
        'this kernel cannot list its dma-bufs: the BPF iterator exists since Linux 6.16',
        syscall,
      );
    case 'dmabuf_iter_priv':
      return unsupported('the BPF iterator of this kernel loses buffers: Linux 6.18 has mended it', syscall);
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
  return createError(errno, syscall, undefined, adviceOn(createError(errno, syscall).code, syscall));
}

/** An error of a call to load an iterator, with what it means here and what to do; any other as it is. */
export function explainBpf(error: unknown): unknown {
  const { errno, syscall } = error as Partial<DmaBufError>;
  if (errno === undefined || syscall === undefined || !/^(BPF_PROG_LOAD|bpf_iter|dmabuf_iter)/.test(syscall))
    return error;
  return explain(errno, syscall);
}

function adviceOn(code: string, syscall: string): string | undefined {
  if (syscall === 'BPF_PROG_LOAD' && (code === 'EPERM' || code === 'EACCES')) return rights;
  if (syscall === 'BPF_PROG_LOAD' && code === 'EINVAL' && isLockedDown()) {
    return 'The kernel is locked down (confidentiality), which forbids BPF programs to read strings';
  }
  if (syscall === 'BPF_PROG_LOAD' && code === 'ENOSYS')
    return 'This kernel was built without CONFIG_BPF_SYSCALL';
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

/** Loads the iterators and reads them. */
export async function surveyBpf({ buffers, holders }: BpfParts): Promise<Survey> {
  return toSurvey('bpf', await onThreadPool((done) => native.surveyBpf('', buffers, holders, done), explain));
}

/** Reads the iterators that somebody has pinned in a folder. */
export async function surveyPinned(folder: string, { buffers, holders }: BpfParts): Promise<Survey> {
  const explainPinned = (errno: number, syscall: string): DmaBufError => {
    if (syscall === 'pid_namespaces') return explain(errno, syscall);
    const error = createError(errno, syscall, folder);
    if (error.code !== 'EPROTO') return error;
    return new DmaBufError(`EPROTO: the files in '${folder}' are not those that dmabuf pin places there`, {
      code: 'EPROTO',
      errno,
      syscall,
      path: folder,
    });
  };
  const start = (done: Parameters<typeof native.surveyBpf>[3]): void =>
    native.surveyBpf(folder, buffers, holders, done);
  return toSurvey('bpf', await onThreadPool(start, explainPinned));
}
