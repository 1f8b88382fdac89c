import { type Finished, findProgram, run } from './process.js';
import { keepTelling } from './progress.js';

/** Why packages are not installed, and what to do about it. */
export interface NotInstalled {
  reason: string;
  cure: string;
}

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/** Installs packages on this machine, until `isThere` finds what they bring. */
export async function installPackages(
  names: readonly string[],
  isThere: () => Promise<boolean> | boolean,
  { progress, signal }: Steps,
): Promise<NotInstalled | undefined> {
  const packages = names.join(' ');
  const apt = findProgram('apt-get');
  if (apt === undefined) {
    return {
      reason: 'this machine has no apt-get to install it with',
      cure: `Install ${packages} by other means`,
    };
  }
  const command = `sudo apt-get install --no-install-recommends ${packages}`;
  const root = await rootPrefix();
  if (root === undefined) {
    return { reason: 'installing it takes root, or sudo without a password', cure: `Run '${command}'` };
  }
  // The machine's own packages are not to be left half installed: apt ends what it has begun.
  const onAbort = (): void => progress('waiting for apt, which ends what it has begun');
  const aptGet = (...args: string[]): Promise<Finished> => {
    const settings = ['env', 'DEBIAN_FRONTEND=noninteractive', apt, '-o', 'DPkg::Lock::Timeout=300'];
    const [program, ...words] = [...root, ...settings, ...args] as [string, ...string[]];
    return run(program, words, { signal, mayFinish: true, keepsTerminal: root.length > 0 });
  };
  const install = (): Promise<Finished> => aptGet('install', '-y', '--no-install-recommends', ...names);
  const stop = keepTelling(progress, `installing ${names.join(', ')} with apt`);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    let result = await install();
    if (result.status !== 0) {
      // no package lists yet (a fresh container), or lists that are out of date
      await aptGet('update');
      result = await install();
    }
    if (await isThere()) return undefined;
    return { reason: `apt-get could not install it:\n${result.stderr.trim()}`, cure: `Try '${command}'` };
  } finally {
    signal?.removeEventListener('abort', onAbort);
    stop();
  }
}

/** The words before a command that is to run as root; `undefined` when that is not possible. */
async function rootPrefix(): Promise<string[] | undefined> {
  if (process.getuid?.() === 0) return [];
  const sudo = findProgram('sudo');
  if (sudo === undefined) return undefined;
  const test = await run(sudo, ['-n', 'true'], { keepsTerminal: true });
  return test.status === 0 ? [sudo, '-n'] : undefined;
}
