// The parts of the programs in test/inject: a use of the package in which system calls will fail.

/** What every script works with. */
export interface Tools {
  /** The package, its functions counted where coverage is asked for. */
  readonly core: typeof import('dmabuf');
  readonly frame: typeof import('dmabuf/frame');
  readonly inspect: typeof import('dmabuf/inspect');
  readonly metrics: typeof import('dmabuf/metrics');
  /** A 64 KiB buffer and a small one that are there all the time. */
  readonly buffer: import('dmabuf').DmaBuf;
  readonly small: import('dmabuf').DmaBuf;
  /** From here on calls fail: what comes before only prepares. */
  begin(): void;
  /** No call fails from here on: what follows only looks. */
  end(): void;
  /** Closes it when the script is over; no call fails then. */
  own<T extends { close(): void }>(object: T): T;
  /** Runs when the script is over. */
  after(fn: () => void): void;
  /** A name for an abstract socket that nobody else has. */
  name(): string;
}

/** The entry points. */
export type Packages = Pick<Tools, 'core' | 'frame' | 'inspect' | 'metrics'>;

/** The body of a script. What it returns is compared with what it returns when nothing fails. */
export type Script = (tools: Tools) => unknown;

/** Scripts by their names. */
export type Scripts = Readonly<Record<string, Script>>;

/** A limit for waits that a failure makes endless, in ms; none comes near it when nothing fails, emulated or not. */
export const patience = Number(process.env.DMABUF_INJECT_PATIENCE);

/** As JSON, in which an open object always has its descriptor; numbers that differ from run to run are left out. */
export function asJson(...objects: readonly object[]): string {
  const text = JSON.stringify(objects);
  if (text.includes('"fd":-1')) throw new Error(`an open object is told to be closed: ${text}`);
  return text
    .replace(/"(fd|inode|pid|path)":("[^"]*"|\d+)/g, '"$1"')
    .replace(/vgem-unbound\d+-\d+/g, 'vgem-unbound'); // a fence's, as Linux 6.12 calls it
}

/** What was received, recognised. */
export const kindsOf = (handles: readonly unknown[]): string =>
  handles
    .map((handle) => (typeof handle === 'number' ? 'number' : (handle as object).constructor.name))
    .join();
