/** One entry of an archive; directories above it are added by themselves. */
export type CpioEntry =
  | { path: string; data: Uint8Array | string; mode?: number }
  | { path: string; linkTo: string }
  | { path: string; directory: true };

const TYPE_DIRECTORY = 0o040000;
const TYPE_FILE = 0o100000;
const TYPE_LINK = 0o120000;

/** Writes a cpio archive in the "newc" format, the one the kernel unpacks as its first root filesystem. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  let inode = 0;
  const add = (path: string, mode: number, data: Buffer): void => {
    inode += 1;
    parts.push(header(inode, path, mode, data.length), data, padding(data.length));
  };
  const seen = new Set<string>();
  const addDirectories = (path: string): void => {
    const segments = path.split('/');
    for (let depth = 1; depth < segments.length; depth += 1) {
      addDirectory(segments.slice(0, depth).join('/'));
    }
  };
  const addDirectory = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    add(path, TYPE_DIRECTORY | 0o755, Buffer.alloc(0));
  };
  for (const entry of entries) {
    addDirectories(entry.path);
    if ('directory' in entry) addDirectory(entry.path);
    else if ('linkTo' in entry) add(entry.path, TYPE_LINK | 0o777, Buffer.from(entry.linkTo));
    else add(entry.path, TYPE_FILE | (entry.mode ?? 0o644), Buffer.from(entry.data));
  }
  inode = -1; // the trailer's inode is 0
  add('TRAILER!!!', 0, Buffer.alloc(0));
  return Buffer.concat(parts);
}

function header(inode: number, path: string, mode: number, size: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  const links = 1;
  // magic, then: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.length, 0];
  const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([head, name, padding(head.length + name.length)]);
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
