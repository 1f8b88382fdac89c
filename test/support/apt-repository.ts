// A repository of Debian packages on this machine, which apt reads like a mirror: what a suite may offer one day.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** The beginning of a kernel image, which says what it is: of x86, or of arm64 where the version ends so. */
export function kernelImage(version: string): Buffer {
  const image = Buffer.alloc(4096);
  if (architectureOf(version) === 'arm64') {
    image.write('ARMd', 0x38, 'latin1');
    image.writeUInt32LE(0x40, 0x3c);
    image.write('PE\0\0', 0x40, 'latin1');
    image.writeUInt16LE(1, 0x46); // sections
    image.writeUInt16LE(0, 0x54); // what stands before their table
    image.writeUInt32LE(image.length - 1024, 0x58 + 16);
    image.writeUInt32LE(1024, 0x58 + 20);
    image.write(`Linux version ${version} (somebody@somewhere) #1 SMP\0`, 0x800, 'latin1');
    return image;
  }
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt8(3, 0x1f1); // sectors of set-up code after the first
  image.writeUInt32LE((image.length - 4 * 512) / 16, 0x1f4);
  image.writeUInt16LE(0x400, 0x20e);
  image.write(`${version} (somebody@somewhere) #1 SMP\0`, 0x600, 'latin1');
  return image;
}

type Part = 'base' | 'binary' | 'modules' | 'image';

/** What a kernel's files are: made up, or those of a folder as in the cache. */
type Content = 'made up' | { folder: string };

/** So many bytes that take no room in the package, and their time when they are unpacked. */
interface Zeros {
  zeros: number;
}

/** A package's files, by their paths. */
type Files = Readonly<Record<string, string | Buffer | Zeros>>;

const isZeros = (data: Files[string]): data is Zeros => typeof data === 'object' && 'zeros' in data;

export class AptRepository {
  readonly #folder = mkdtempSync(join(tmpdir(), 'dmabuf-apt-'));
  readonly #suites = new Map<string, string[]>();
  readonly #architectures = new Set(['amd64']);

  /** The environment for which this is the only repository, with a cache of its own. */
  readonly env: { APT_CONFIG: string; XDG_CACHE_HOME: string };

  constructor() {
    const etc = join(this.#folder, 'etc');
    mkdirSync(this.#mirror);
    symlinkSync(this.#mirror, `${this.#mirror}-security`);
    mkdirSync(join(etc, 'sources.list.d'), { recursive: true });
    writeFileSync(join(etc, 'sources.list'), `deb [trusted=yes] file:${this.#mirror} trixie main\n`);
    writeFileSync(join(this.#folder, 'apt.conf'), `Dir::Etc "${etc}";\n`);
    this.env = {
      APT_CONFIG: join(this.#folder, 'apt.conf'),
      XDG_CACHE_HOME: join(this.#folder, 'cache'),
    };
  }

  /** The folder that a server on this machine would show as `/debian`. */
  get mirror(): string {
    return this.#mirror;
  }

  get #mirror(): string {
    return join(this.#folder, 'debian');
  }

  /** Has apt read from another place than the folder. */
  readFrom(uri: string): void {
    writeFileSync(join(this.#folder, 'etc/sources.list'), `deb [trusted=yes] ${uri} trixie main\n`);
  }

  /** Has apt-get install packages below a folder, in place of the machine. */
  installInto(root: string): void {
    const dpkg = join(root, 'var/lib/dpkg');
    for (const folder of ['info', 'updates', 'triggers']) mkdirSync(join(dpkg, folder), { recursive: true });
    for (const file of ['status', 'available']) writeFileSync(join(dpkg, file), '');
    for (const folder of ['state/lists/partial', 'apt/archives/partial', 'log'])
      mkdirSync(join(this.#folder, folder), { recursive: true });
    const settings = [
      `Dir::State "${join(this.#folder, 'state')}";`,
      `Dir::State::status "${join(dpkg, 'status')}";`,
      `Dir::Cache "${join(this.#folder, 'apt')}";`,
      `Dir::Log "${join(this.#folder, 'log')}";`,
      'APT::Sandbox::User "root";',
      `DPkg::Options { "--root=${root}"; "--force-script-chrootless"; "--log=/dev/null"; };`,
    ];
    writeFileSync(this.env.APT_CONFIG, `${settings.join('\n')}\n`, { flag: 'a' });
  }

  get kernels(): string {
    return join(this.env.XDG_CACHE_HOME, 'dmabuf/kernels');
  }

  /** A suite that offers nothing, until something is published in it. */
  addSuite(suite: string): void {
    this.#suites.set(suite, []);
    this.#writeLists(suite);
  }

  /** Publishes a kernel as backports have them, in these parts. */
  publish(
    suite: string,
    version: string,
    parts: readonly Part[] = ['base', 'binary', 'modules', 'image'],
    content: Content = 'made up',
  ): void {
    const stanzas = this.#suites.get(suite) ?? [];
    this.#suites.set(suite, stanzas);
    this.#architectures.add(architectureOf(version));
    for (const part of parts) stanzas.push(this.#makePackage(part, version, content));
    this.#writeLists(suite);
  }

  /** Publishes one package that has these files, in place of one of that name. */
  publishFiles(
    suite: string,
    { name, version, depends = [] }: { name: string; version: string; depends?: readonly string[] },
    files: Files,
  ): void {
    const others = (this.#suites.get(suite) ?? []).filter((one) => !one.startsWith(`Package: ${name}\n`));
    this.#suites.set(suite, [...others, this.#pack(fieldsOf(name, version, depends), files)]);
    this.#writeLists(suite);
  }

  /** Takes the contents of a version's packages away, as a mirror that is behind its own lists. */
  loseFiles(version: string): void {
    for (const part of ['base', 'binary', 'modules', 'image'])
      rmSync(join(this.#mirror, `linux-${part}-${version}.deb`), { force: true });
  }

  /** Takes a suite, or the whole mirror, away. */
  withdraw(suite?: string): void {
    rmSync(suite === undefined ? this.#mirror : join(this.#mirror, 'dists', suite), { recursive: true });
    if (suite !== undefined) this.#suites.delete(suite);
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }

  #makePackage(part: Part, version: string, content: Content): string {
    const needs: Record<Part, Part[]> = {
      base: [],
      binary: ['base'],
      modules: ['base'],
      image: ['base', 'binary', 'modules'],
    };
    const depends = needs[part].map((other) => `linux-${other}-${version} (= 1)`);
    const files: Record<string, string | Buffer> = {};
    const modules = `usr/lib/modules/${version}`;
    const file = (path: string, madeUp: string | Buffer): string | Buffer =>
      content === 'made up' ? madeUp : readFileSync(join(content.folder, path));
    if (part === 'base') files[`boot/config-${version}`] = file('config', 'CONFIG_DMABUF_HEAPS=y\n');
    if (part === 'binary') files[`boot/vmlinuz-${version}`] = file('vmlinuz', kernelImage(version));
    if (part === 'modules') files[`${modules}/modules.builtin`] = file('modules/modules.builtin', '');
    return this.#pack(fieldsOf(`linux-${part}-${version}`, '1', depends), files, (root) => {
      if (part !== 'modules') return;
      mkdirSync(join(root, modules, 'kernel'));
      if (content !== 'made up')
        cpSync(join(content.folder, 'modules/kernel'), join(root, modules, 'kernel'), { recursive: true });
    });
  }

  /** Makes a package and returns what a suite's list says of it. */
  #pack(fields: readonly string[], files: Files, add: (root: string) => void = () => {}): string {
    const root = mkdtempSync(join(this.#folder, 'package-'));
    const all: Files = { 'DEBIAN/control': `${fields.join('\n')}\n`, ...files };
    for (const [path, data] of Object.entries(all)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      if (isZeros(data)) {
        writeFileSync(join(root, path), '');
        truncateSync(join(root, path), data.zeros);
        continue;
      }
      const isProgram = path.includes('/bin/') || path === 'DEBIAN/postinst';
      writeFileSync(join(root, path), data, { mode: isProgram ? 0o755 : 0o644 });
    }
    add(root);
    const name = fields[0]?.replace('Package: ', '');
    const archive = join(this.#mirror, `${name}.deb`);
    const compression = Object.values(files).some(isZeros) ? ['-Zgzip', '-z1'] : ['-Znone'];
    const built = spawnSync('dpkg-deb', ['--root-owner-group', ...compression, '--build', root, archive]);
    if (built.status !== 0) throw new Error(`dpkg-deb: ${built.stderr}`);
    rmSync(root, { recursive: true });
    const data = readFileSync(archive);
    const about = [`Filename: ${name}.deb`, `Size: ${data.length}`, `SHA256: ${sha256(data)}`];
    return [...fields.slice(0, -1), ...about, ...fields.slice(-1)].join('\n');
  }

  #writeLists(suite: string): void {
    const dists = join(this.#mirror, 'dists', suite);
    const lists = [...this.#architectures].map((name) => {
      const own = (this.#suites.get(suite) ?? []).filter((one) => one.includes(`\nArchitecture: ${name}\n`));
      const list = `main/binary-${name}/Packages`;
      const packages = own.map((stanza) => `${stanza}\n\n`).join('');
      mkdirSync(join(dists, dirname(list)), { recursive: true });
      writeFileSync(join(dists, list), packages);
      return ` ${sha256(packages)} ${Buffer.byteLength(packages)} ${list}`;
    });
    const release = [
      `Suite: ${suite}`,
      `Codename: ${suite}`,
      'Components: main',
      `Architectures: ${[...this.#architectures].join(' ')}`,
      `Date: ${new Date().toUTCString()}`,
      'SHA256:',
      ...lists,
    ];
    writeFileSync(join(dists, 'Release'), `${release.join('\n')}\n`);
  }
}

/** By the name of a kernel, or of one of its packages. */
function architectureOf(name: string): string {
  return /-arm64(-16k)?$/.test(name) ? 'arm64' : 'amd64';
}

function fieldsOf(name: string, version: string, depends: readonly string[]): string[] {
  return [
    `Package: ${name}`,
    `Version: ${version}`,
    `Architecture: ${architectureOf(name)}`,
    'Maintainer: somebody <somebody@somewhere>',
    ...(depends.length === 0 ? [] : [`Depends: ${depends.join(', ')}`]),
    'Description: a kernel',
  ];
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
