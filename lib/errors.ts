import { describeErrno } from './errnos.js';

/** A failed attempt to allocate from one source of memory. */
export interface AllocationAttempt {
  /** The source as requested: `'system'`, `'cma'`, `'udmabuf'`, a heap's name or path; for a `DmaHeap`, its name. */
  source: string;
  /** The error with which it refused. */
  error: DmaBufError;
}

/** Advice in one or several sentences; a missing full stop at the end is added. */
export type Hint = string | readonly string[];

function sentencesOf(hint: Hint | undefined): string[] {
  const sentences = typeof hint === 'string' ? [hint] : (hint ?? []);
  return sentences.map((text) => (text.endsWith('.') ? text : `${text}.`));
}

/** Advice as people read it. */
export function textOfHint(hint: Hint): string {
  return sentencesOf(hint).join(' ');
}

/** The properties of a {@link DmaBufError} besides its message. */
export interface DmaBufErrorDetails {
  /** See {@link DmaBufError.code}. */
  code: string;
  /** See {@link DmaBufError.errno}. */
  errno?: number | undefined;
  /** See {@link DmaBufError.syscall}. */
  syscall?: string | undefined;
  /** See {@link DmaBufError.path}. */
  path?: string | undefined;
  /**
   * See {@link DmaBufError.hint}; one text, or a list of sentences. The constructor adds it to the end of the message.
   */
  hint?: string | readonly string[] | undefined;
  /** See {@link DmaBufError.attempts}. */
  attempts?: AllocationAttempt[] | undefined;
  /** The error that led to this one, as `Error` has it. */
  cause?: unknown;
}

interface ErrorParts {
  /** What failed. */
  what: string;
  /** What to do about it, sentence by sentence. */
  advice: readonly string[];
}

/** What an error's message is made of. */
export let partsOf: (error: DmaBufError) => ErrorParts;

/**
 * The error for every failure except a bad argument.
 *
 * The message says what failed and, where one fix is likely, what to do, which is also in `hint`. `code` is the errno's
 * name for an error of the kernel (`'EINVAL'`), `'ETIMEDOUT'` for an option `timeout` that has passed or a process that
 * blocks its inspection, or one of:
 *
 * - `ERR_DMABUF_CLOSED`: use after `close()`, or `close()` during a wait.
 * - `ERR_DMABUF_NOT_DMABUF`: the descriptor is another kind of file.
 * - `ERR_DMABUF_STALE_FD`: other code closed the object's descriptor, and its number now refers to another file.
 * - `ERR_DMABUF_NO_SOURCE`: no source could allocate; `attempts` has the error of each.
 * - `ERR_DMABUF_MEMORY_GUARD`: more memory was requested than is available; the message has both figures.
 * - `ERR_DMABUF_MESSAGE_TRUNCATED`: a message could not be received whole, and was dropped with its descriptors; or not
 *   all descriptors of a stream's bytes could be received.
 * - `ERR_DMABUF_TOO_MANY_HANDLES`: more descriptors arrived on a stream than `maxHandles`, and were not taken.
 * - `ERR_DMABUF_LOST`: the exporter no longer has the buffer's memory, and answered an access with SIGBUS; its bytes
 *   read as zeros from then on.
 * - `ERR_DMABUF_PEER_DROPPED`: the peer has sent too many descriptors of files that cannot be closed (of a file system that
 *   does not answer); nothing more is received from it.
 * - `ERR_DMABUF_PROTOCOL`: the peer of a FrameSender or FrameReceiver has sent what is none of their messages; the channel was
 *   closed.
 * - `ERR_DMABUF_NO_EXTERNAL_BUFFERS`: the runtime allows no mapped memory (Electron); `read()` and `write()` work.
 * - `ERR_DMABUF_METRIC_EXISTS`: the registry already has a metric of that name.
 * - `ERR_DMABUF_UNSUPPORTED_KERNEL`: this kernel does not support the call; if a known version of Linux does, the message
 *   names it.
 * - `ERR_DMABUF_UNSUPPORTED_PLATFORM`: this is not Linux, or the addon cannot be loaded; the message says why.
 */
export class DmaBufError extends Error {
  /** The errno's name (`'EACCES'`), or an `ERR_DMABUF_*` code as listed above. */
  readonly code: string;
  /** The negative errno, for errors of the kernel: `-13`. */
  declare readonly errno?: number;
  /** The system call, or the ioctl by the name of its request (`'DMA_HEAP_IOCTL_ALLOC'`). */
  declare readonly syscall?: string;
  /** The file, socket or folder that could not be used, where there is one. */
  declare readonly path?: string;
  /** What to do about the error, in whole sentences, where one fix is likely. The message ends with it. */
  declare readonly hint?: string;
  /** With `ERR_DMABUF_NO_SOURCE`: every source that was tried, in order, with its error. */
  declare readonly attempts?: AllocationAttempt[];
  readonly #parts: ErrorParts;

  static {
    partsOf = (error) => error.#parts;
  }

  /** For code that wraps or imitates the library. */
  constructor(message: string, details: DmaBufErrorDetails) {
    const advice = sentencesOf(details.hint);
    const hint = advice.length === 0 ? undefined : advice.join(' ');
    super(
      hint === undefined ? message : `${message}${message.includes('\n') ? '\n' : '. '}${hint}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.#parts = { what: message, advice };
    this.code = details.code;
    if (details.errno !== undefined) this.errno = details.errno;
    if (details.syscall !== undefined) this.syscall = details.syscall;
    if (details.path !== undefined) this.path = details.path;
    if (hint !== undefined) this.hint = hint;
    if (details.attempts !== undefined) this.attempts = details.attempts;
  }

  /** The message and the properties, for logs and as JSON: of other errors JSON has no message. */
  toJSON(): object {
    const { name, message } = this;
    return { name, message, ...(this as object) };
  }
}
Object.defineProperty(DmaBufError.prototype, 'name', {
  value: 'DmaBufError',
  configurable: true,
  writable: true,
});

/** Makes a call about a descriptor that the user has named, and adds that number to its errors. */
export function aboutDescriptor<T>(fd: number, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof DmaBufError)) throw error;
    const { code, errno, syscall } = error;
    const { what, advice } = partsOf(error);
    // No object owns the descriptor, so a hint for owners does not apply.
    if (code === 'EBADF')
      throw new DmaBufError(`EBADF: no file is open as descriptor ${fd}, ${syscall}`, {
        code,
        errno,
        syscall,
      });
    throw new DmaBufError(`${what} (descriptor ${fd})`, { code, errno, syscall, hint: advice });
  }
}

/** What to do when no thread could be created. */
export const adviceOnThreads: string =
  'No thread could be created: raise the limit of this user (ulimit -u) or of its control group (pids.max; TasksMax= in a ' +
  'systemd unit)';

/** What to do about an error; a function of the path if it depends on the path or on the state at that moment. */
type Advice = Hint | ((path: string | undefined) => Hint | undefined);

/** By call and code (`'connect ENOENT'`), or by the code alone. */
const knownAdvice = new Map<string, Advice>([
  [
    'EMFILE',
    'The process has no file descriptor left: close what is no longer needed, or raise the limit (ulimit -n)',
  ],
  ['pthread_create EAGAIN', adviceOnThreads],
  ['fstat EBADF', 'Other code closed the descriptor of the object'],
]);

/** Adds the advice for the errors of a wing's own interfaces. Called when the wing is loaded. */
export function provideAdvice(advice: Readonly<Record<string, Advice>>): void {
  for (const [error, what] of Object.entries(advice)) knownAdvice.set(error, what);
}

function adviceFor(code: string, syscall?: string, path?: string): Hint | undefined {
  const advice = knownAdvice.get(`${syscall} ${code}`) ?? knownAdvice.get(code);
  return typeof advice === 'function' ? advice(path) : advice;
}

function ownMessage(code: string): string {
  switch (code) {
    case 'ERR_DMABUF_CLOSED':
      return 'the object is closed';
    case 'ERR_DMABUF_NOT_DMABUF':
      return 'the file descriptor does not refer to a dma-buf';
    case 'ERR_DMABUF_STALE_FD':
      return 'the file descriptor now refers to another file: other code closed the descriptor of the object';
    case 'ERR_DMABUF_LOST':
      return "the buffer's memory is gone: its exporter answered an access with SIGBUS";
    case 'ERR_DMABUF_NO_EXTERNAL_BUFFERS':
      return 'this runtime allows no ArrayBuffer over memory that is not its own';
    case 'ERR_DMABUF_UNSUPPORTED_KERNEL':
      return 'this kernel does not support the call';
    default:
      return code;
  }
}

/** An error of Node's own file system calls as a DmaBufError; any other error unchanged. */
export function fromNode(error: unknown): unknown {
  const { errno, syscall, path } = error as { errno?: number; syscall?: string; path?: string };
  return error instanceof DmaBufError || errno === undefined ? error : createError(errno, syscall, path);
}

/**
 * Makes an error of the kernel, or of the library when `code` is a string. The addon calls this. `advice` becomes the
 * hint: a caller may know better what to do than the name of the call says.
 */
export function createError(
  code: string | number,
  syscall?: string,
  path?: string,
  advice?: Hint,
): DmaBufError {
  if (typeof code === 'string') {
    return new DmaBufError(`${code}: ${ownMessage(code)}`, { code, hint: advice ?? adviceFor(code) });
  }
  const [name, text] = describeErrno(code);
  const where = path === undefined ? syscall : `${syscall} '${path}'`;
  return new DmaBufError(where === undefined ? `${name}: ${text}` : `${name}: ${text}, ${where}`, {
    code: name,
    errno: code,
    syscall,
    path,
    hint: advice ?? adviceFor(name, syscall, path),
  });
}

/** Runs a call that older kernels do not know (ENOTTY); the error then says since which version it exists. */
export function unsupportedKernel<T>(syscall: string, since: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof DmaBufError) || error.code !== 'ENOTTY') throw error;
    throw new DmaBufError(
      `ERR_DMABUF_UNSUPPORTED_KERNEL: this kernel does not know ${syscall}, which exists since Linux ${since}`,
      { code: 'ERR_DMABUF_UNSUPPORTED_KERNEL', syscall, cause: error },
    );
  }
}

/** The place of the call in the caller's code, kept until an asynchronous operation fails. */
export interface CallSite {
  stack?: string;
}

// Read when this file is loaded: hardened environments remove it later. Engines other than V8 may not have it.
const captureStackTrace = Error.captureStackTrace as typeof Error.captureStackTrace | undefined;

/** Programs decide what a stack is (`Error.prepareStackTrace`): a failure there must not replace the error itself. */
// biome-ignore lint/complexity/noBannedTypes: V8 leaves out all frames above any function.
export function captureStack(target: object, method: Function): void {
  try {
    captureStackTrace?.(target, method);
  } catch {
    // The error has no stack, then.
  }
}

/** Remembers where the user called `method`. */
// biome-ignore lint/complexity/noBannedTypes: V8 leaves out all frames above any function.
export function callSite(method: Function): CallSite {
  const site: CallSite = {};
  captureStack(site, method);
  return site;
}

/**
 * Gives an error that was created later the stack of the call that it belongs to: as text, or in the form that the
 * program has chosen for stacks.
 */
export function atCallSite<E extends Error>(error: E, site: CallSite): E {
  try {
    const stack: unknown = site.stack;
    if (typeof stack === 'string') {
      const frames = stack.includes('\n') ? stack.slice(stack.indexOf('\n')) : '';
      error.stack = `${error.name}: ${error.message}${frames}`;
    } else if (stack !== undefined) {
      error.stack = stack as string;
    }
  } catch {
    // It keeps its own stack.
  }
  return error;
}

/**
 * Gives an error the stack of the code that awaits, which V8 knows in the continuation of an await. For calls that are so
 * frequent that to remember the place of each would cost more than the call.
 */
export function withAwaitersStack(error: unknown): unknown {
  if (error instanceof DmaBufError) captureStack(error, withAwaitersStack);
  return error;
}
