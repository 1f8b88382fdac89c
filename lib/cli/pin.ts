import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { DmaBufError } from '../errors.js';
import { escapeControls } from '../escape.js';
import { pinSync, unpinSync } from '../inspect/pin.js';
import { defaultPinFolder } from '../inspect/sources/bpf.js';
import { subcommand, whole } from './options.js';
import { print, printJson } from './output.js';

const HELP = `
Needs root (CAP_BPF and CAP_PERFMON) and Linux 6.18. Users who may read the files see the size, exporter and name of every
dma-buf and, with --holders, the ids of the processes that hold them. The files stay until they are removed or the machine
restarts, so place them at boot. The folder, and its parent folders, must belong to root or to you, and must not be
writable by others unless they are sticky. --remove removes only what pin has placed.
Exit status: 0; 2 on errors.

Examples:
  sudo dmabuf pin --holders                     for everyone
  sudo dmabuf pin --group video --mode 0440     for one group, without holders
  sudo dmabuf pin --remove`;

interface Flags {
  folder: string;
  mode?: number;
  group?: string;
  holders?: boolean;
  remove?: boolean;
  json?: boolean;
}

function permissions(text: string): number {
  const mode = Number.parseInt(text, 8);
  if (!/^[0-7]{3,4}$/.test(text) || mode > 0o777 || (mode & 0o022) !== 0) {
    throw new InvalidArgumentError(
      'It must be permissions in octal by which only the owner may write, such as 0440.',
    );
  }
  return mode;
}

/** `dmabuf pin` */
export function pinCommand(): Command {
  const description = 'Places BPF iterators as files, so that users without rights can list all dma-bufs.';
  return subcommand('pin', description, HELP)
    .option('--folder <path>', 'the folder, in a BPF file system', defaultPinFolder)
    .option('--mode <octal>', 'the permissions of the files (0444)', permissions)
    .option('--group <group>', 'the group of the files, by name or number')
    .option('--holders', 'also place the files that list holders (otherwise older ones are removed)')
    .addOption(
      new Option('--remove', 'remove the files that pin has placed').conflicts(['mode', 'group', 'holders']),
    )
    .option('--json', 'print JSON')
    .action(place);
}

/** The number of a group of /etc/group. */
function groupId(group: string): number {
  if (/^\d+$/.test(group)) return whole(0)(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${group}:`));
  const id = line?.split(':')[2];
  if (id !== undefined) return Number(id);
  throw new DmaBufError(`ENOENT: there is no group '${group}'`, {
    code: 'ENOENT',
    path: '/etc/group',
    hint: 'Give its number if it is not in /etc/group',
  });
}

function place({ folder, mode, group, holders, remove, json }: Flags): void {
  if (remove) {
    unpinSync(folder);
    if (json) printJson([]);
    return;
  }
  const paths = pinSync({ folder, mode, holders, gid: group === undefined ? undefined : groupId(group) });
  if (json) printJson(paths);
  else print(...paths.map(escapeControls));
}
