import { invalidValue } from '../check.js';

/** What a command needs to find programs and files, and to write as its reader reads: taken from the caller's. */
const INHERITED =
  /^(PATH|HOME|SHELL|TERM|COLORTERM|NO_COLOR|TZ|LANG|LANGUAGE|LC_(ALL|COLLATE|CTYPE|MESSAGES|MONETARY|NUMERIC|TIME))$/;

/** For a caller that has none: where Debian has its programs. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * The environment of the command: a few variables of the caller's, what the guest itself says, and what is asked for.
 * One that is given as undefined is left out.
 */
export function guestEnvironment(
  given: Readonly<Record<string, string | undefined>>,
  cwd: string,
  own: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, string> {
  const inherited = Object.entries(own).filter(([name]) => INHERITED.test(name));
  const all = { PATH, ...Object.fromEntries(inherited), USER: 'root', LOGNAME: 'root', ...given };
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(all)) {
    // NODE_CHANNEL_*: names a descriptor to the parent that the guest's process does not have
    if (value === undefined || name.startsWith('NODE_CHANNEL_')) continue;
    if (name === '' || /[=\0]/.test(name) || typeof value !== 'string' || value.includes('\0')) {
      throw invalidValue(`env: cannot pass on variable '${name}'`);
    }
    result[name] = value;
  }
  return { ...result, PWD: cwd, DMABUF_VM: '1' };
}

/**
 * `NAME=VALUE`, or the `NAME` of a variable of the caller's, which is undefined where it is not set. A name that begins with
 * a hyphen is an option that follows one without its value.
 */
export function parseVariable(
  word: string,
  own: Readonly<Record<string, string | undefined>> = process.env,
): [name: string, value: string | undefined] {
  const [, name, value] = /^([^=-][^=]*)(?:=(.*))?$/s.exec(word) ?? [];
  if (name === undefined) {
    throw invalidValue(`'${word}' is neither NAME nor NAME=VALUE`);
  }
  return [name, word.includes('=') ? (value ?? '') : own[name]];
}
