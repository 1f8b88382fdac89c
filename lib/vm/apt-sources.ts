import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram, run } from './process.js';

/** One place packages come from. */
export interface AptSource {
  uri: string;
  suites: string[];
  components: string[];
  /** Further fields as apt spells them in `.sources` files, e.g. `Signed-By`; continuation lines are kept. */
  fields: Record<string, string>;
}

/** Reads a one-line style file (`deb [signed-by=…] http://… bookworm main`). */
export function parseOneLineSources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (match === null) continue;
    const [, options = '', uri, suite, components = ''] = match as unknown as string[];
    const fields: Record<string, string> = {};
    for (const option of options.split(/\s+/)) {
      const [name, value] = option.split('=', 2);
      if (name && value) fields[name.toLowerCase()] = value.replaceAll(',', ' ');
    }
    sources.push({ uri: uri as string, suites: [suite as string], components: words(components), fields });
  }
  return sources;
}

/** Reads a deb822 style file (`.sources`: stanzas of `Field: value`). */
export function parseDeb822Sources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  const uncommented = text.replace(/^#.*\n?/gm, '');
  for (const stanza of uncommented.split(/\n\s*\n/)) {
    const fields: Record<string, string> = {};
    for (const match of stanza.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)/gm)) {
      fields[(match[1] as string).toLowerCase()] = (match[2] as string).trim();
    }
    const { types = '', uris = '', suites = '', components = '', enabled = 'yes', ...rest } = fields;
    if (!words(types).includes('deb') || /^(no|false|off|0)$/i.test(enabled)) continue;
    for (const uri of words(uris)) {
      sources.push({ uri, suites: words(suites), components: words(components), fields: rest });
    }
  }
  return sources;
}

/** Where this machine's apt has its sources; `APT_CONFIG` may say so. */
export async function aptFolder(): Promise<string> {
  const program = findProgram('apt-config');
  if (program === undefined) return '/etc/apt';
  const { stdout } = await run(program, ['shell', 'FOLDER', 'Dir::Etc/d']);
  return /^FOLDER='(.*)'$/m.exec(stdout.toString())?.[1] ?? '/etc/apt';
}

/** Everything the machine's own apt reads packages from. */
export function readAptSources(folder: string): AptSource[] {
  const sources: AptSource[] = [];
  const parts = join(folder, 'sources.list.d');
  for (const path of [join(folder, 'sources.list'), ...list(parts).map((name) => join(parts, name))]) {
    const text = read(path);
    if (path.endsWith('.list')) sources.push(...parseOneLineSources(text));
    if (path.endsWith('.sources')) sources.push(...parseDeb822Sources(text));
  }
  return sources;
}

/** Debian's code names and aliases: what tells a mirror of Debian from other people's archives. */
const DEBIAN_SUITE = /^(buster|bullseye|bookworm|trixie|forky|duke|sid|oldstable|stable|testing|unstable)$/;

/**
 * Mirrors that should have a suite of Debian's, best first: whatever the machine itself reads from the same
 * archive (the main one, or the security one), with the same keys.
 */
export function mirrorsFor(suite: string, sources: readonly AptSource[]): AptSource[] {
  const debian = sources.filter(({ components }) => components.includes('main'));
  const readsFrom = (archive: 'main' | 'security'): AptSource[] =>
    debian.filter(({ suites }) => suites.some((name) => archiveOf(name) === archive));
  const mirrors = suite.endsWith('-security')
    ? [...readsFrom('security'), ...readsFrom('main').flatMap(securityBeside)]
    : readsFrom('main');
  // Others name their suites after Debian's too, so an address that looks like Debian's goes first.
  const rank = ({ uri }: AptSource): number => (/debian[^.]*$/.test(uri) ? 0 : 1);
  const seen = new Set<string>();
  return mirrors
    .sort((a, b) => rank(a) - rank(b))
    .filter(({ uri }) => !seen.has(uri) && seen.add(uri))
    .map((source) => ({ ...source, suites: [suite], components: ['main'] }));
}

/** Which of Debian's archives a suite is in, if it is one of Debian's. */
function archiveOf(suite: string): 'main' | 'security' | undefined {
  const [, codeName = '', part = ''] = /^([a-z]+)(.*)$/.exec(suite) ?? [];
  if (!DEBIAN_SUITE.test(codeName)) return undefined;
  return part === '-security' || part === '/updates' ? 'security' : 'main';
}

/** The security archive as mirrors have it beside the main one, for machines that do not read it. */
function securityBeside(source: AptSource): AptSource[] {
  const uri = source.uri.replace(/\/debian\/?$/, '/debian-security');
  return uri === source.uri ? [] : [{ ...source, uri }];
}

/** Fields that say how far an archive is to be trusted; the others select what to read from it. */
const TRUST_FIELDS = [
  'signed-by',
  'trusted',
  'allow-insecure',
  'allow-weak',
  'check-valid-until',
  'check-date',
];

/** Writes a source as a `.sources` file that makes apt read its package list and nothing else. */
export function formatSource(source: AptSource): string {
  const trust = Object.entries(source.fields).filter(([name]) => TRUST_FIELDS.includes(name));
  return [
    'Types: deb',
    `URIs: ${source.uri}`,
    `Suites: ${source.suites.join(' ')}`,
    `Components: ${source.components.join(' ')}`,
    'Targets: Packages',
    // a value over several lines (a key in the file itself) begins on the next line
    ...trust.map(([name, value]) => `${name}: ${value.includes('\n') ? '\n ' : ''}${value}`),
    '',
  ].join('\n');
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
