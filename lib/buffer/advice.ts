import { provideAdvice } from '../errors.js';
import { adviceOnProcesses } from '../rights.js';
import { adviceForMapping } from './mapping-limits.js';

/** What to do about a process that blocks its inspection. */
export const adviceOnWaiting: string =
  'That process makes the kernel wait for a lock that it holds, or for a file system that does not answer (FUSE, NFS): end it, or repair that file system';

const isOfProcess = (path: string | undefined): path is string => path?.startsWith('/proc/') === true;

const adviceOnRights = (path: string | undefined): string | undefined =>
  isOfProcess(path) ? adviceOnProcesses(path.split('/')[2]) : undefined;

provideAdvice({
  ERR_DMABUF_LOST: 'The device was probably removed: close the buffer, and discard what was read from it',
  ERR_DMABUF_NO_EXTERNAL_BUFFERS: 'Use read() and write(), which copy',
  'mmap EACCES':
    'The descriptor does not allow this mapping: JavaScript memory is always writable, so map() needs a ' +
    "descriptor with access 'read-write'; read() copies and works on a read-only one",
  'mmap ENOMEM': adviceForMapping,
  'open EACCES': adviceOnRights,
  'open EPERM': adviceOnRights,
  'open ENOENT': (path) => (isOfProcess(path) ? 'No such process, or it has no such descriptor' : undefined),
  'poll EAGAIN':
    "A device still uses the buffer, and waiting would block the event loop: await buffer.ready('read') or " +
    "ready('write') first",
  'read ETIMEDOUT': (path) => (isOfProcess(path) ? adviceOnWaiting : undefined),
});
