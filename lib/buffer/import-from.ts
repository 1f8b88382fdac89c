import { checkFd, checkInteger } from '../check.js';
import { createError, DmaBufError } from '../errors.js';
import { native, type Slot } from '../native.js';
import { bytesOf } from '../text-file.js';

function readLine(path: string, pattern: RegExp): string | undefined {
  return pattern.exec(bytesOf(path)?.toString('latin1') ?? '')?.[1];
}

/** The reason why this process may not trace another one, as far as /proc shows it. */
function missingRight(pid: number): string {
  const owner = readLine(`/proc/${pid}/status`, /^Uid:\t(\d+)/m);
  const self = process.geteuid?.();
  if (owner !== undefined && self !== undefined && Number(owner) !== self) {
    return `It belongs to user ${owner}, and this process to ${self}: run as that user, or with CAP_SYS_PTRACE`;
  }
  const scope = readLine('/proc/sys/kernel/yama/ptrace_scope', /^(\d)/);
  if (scope === '1') {
    return (
      'The ptrace scope (/proc/sys/kernel/yama/ptrace_scope) is 1: only the ancestors of a process may copy from it, unless it ' +
      'allows it by prctl(PR_SET_PTRACER). Run with CAP_SYS_PTRACE, or as root: sysctl -w kernel.yama.ptrace_scope=0'
    );
  }
  if (scope === '2' || scope === '3') {
    return `The ptrace scope (/proc/sys/kernel/yama/ptrace_scope) is ${scope}: ${
      scope === '2' ? 'it requires CAP_SYS_PTRACE' : 'no process may trace another until the next boot'
    }`;
  }
  return 'The right to trace that process is required: the same user, the same capabilities, and a process that may be dumped; or CAP_SYS_PTRACE';
}

function explain(error: DmaBufError, pid: number, fd: number): DmaBufError {
  const { code, errno, syscall } = error;
  const say = (text: string, ownCode = code, hint?: string): DmaBufError =>
    new DmaBufError(`${ownCode}: ${text}`, { code: ownCode, errno, syscall, hint, cause: error });
  switch (code) {
    case 'ENOSYS':
      return say(
        `this kernel does not know ${syscall}, which copies a descriptor out of a process and exists since Linux 5.6`,
        'ERR_DMABUF_UNSUPPORTED_KERNEL',
      );
    case 'ESRCH':
      return say(`there is no process ${pid}, ${syscall}`);
    case 'EINVAL':
    case 'ENOENT':
      return say(`${pid} is not a process (it may be a thread's number), ${syscall}`);
    case 'EBADF':
      return say(`process ${pid} has no descriptor ${fd}, ${syscall}`);
    case 'EPERM':
    case 'EACCES':
      return say(
        `descriptor ${fd} may not be copied from process ${pid}, ${syscall}`,
        code,
        missingRight(pid),
      );
    case 'ERR_DMABUF_NOT_DMABUF':
      return say(`descriptor ${fd} of process ${pid} is not a dma-buf`);
    default:
      return errno === undefined ? error : createError(errno, syscall);
  }
}

/** The slot of a dma-buf that another process has open. */
export function importFromProcess(pid: number, fd: number): Slot {
  checkInteger(pid, 'pid', 1, 2 ** 31 - 1);
  checkFd(fd);
  try {
    return native.importFromProcess(pid, fd);
  } catch (error) {
    throw error instanceof DmaBufError ? explain(error, pid, fd) : error;
  }
}
