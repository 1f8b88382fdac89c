import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VmError } from './errors.js';
import { type Finished, findProgram, run } from './process.js';

/** apt with its own package lists and cache in a folder, so that the machine's are neither used nor touched. */
export interface PrivateApt {
  /** Folder in which downloaded packages land. */
  downloads: string;
  /** Folder in which packages land that are to be installed. */
  archives: string;
  run(program: 'apt-get' | 'apt-cache', args: readonly string[]): Promise<Finished>;
}

/**
 * Sets up apt in `folder`.
 * `sources` is the text of a `.sources` file; without it, apt reads what the machine's own apt reads.
 * `architectures` are Debian's names of those whose packages it reads, first that of the programs; without them, the machine's.
 */
export function privateApt(
  folder: string,
  options: { sources?: string; architectures?: readonly string[]; signal?: AbortSignal | undefined } = {},
): PrivateApt {
  const downloads = join(folder, 'downloads');
  for (const path of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(folder, path), { recursive: true });
  mkdirSync(downloads, { recursive: true });
  writeFileSync(join(folder, 'status'), '');
  const settings = {
    'Dir::State': folder,
    'Dir::State::Lists': join(folder, 'lists'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': join(folder, 'cache'),
    'Acquire::Languages': 'none',
    // By itself, apt would wait too long for a network that drops every packet.
    'Acquire::Retries': '1',
    'Acquire::http::Timeout': '15',
    'Acquire::https::Timeout': '15',
    // Downloading as root: apt would otherwise become the user _apt, who cannot write to a private folder.
    'APT::Sandbox::User': 'root',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const { architectures = [] } = options;
  if (architectures[0] !== undefined) args.push('-o', `APT::Architecture=${architectures[0]}`);
  for (const name of architectures) args.push('-o', `APT::Architectures::=${name}`);
  if (options.sources !== undefined) {
    const list = join(folder, 'private.sources');
    writeFileSync(list, options.sources);
    args.push('-o', `Dir::Etc::sourcelist=${list}`, '-o', 'Dir::Etc::sourceparts=-');
  }
  return {
    downloads,
    archives: join(folder, 'cache/archives'),
    run(program, more) {
      const path = findProgram(program);
      if (path === undefined) {
        throw new VmError(
          'ERR_DMABUF_VM_UNSUPPORTED',
          `packages are fetched with ${program}, which this machine does not have`,
          { hint: 'Bring your own kernel with --kernel PATH' },
        );
      }
      return run(path, [...args, ...more], { cwd: downloads, signal: options.signal });
    },
  };
}
