import { snapshot } from 'dmabuf/inspect';
import { noFences } from './fences.js';

/** Why the scripts of test/inject that go by the BPF iterator cannot run, which the others take for there. */
async function whyNoIterator(): Promise<string | false> {
  try {
    await snapshot({ source: 'bpf' });
    return noFences;
  } catch {
    return 'needs the BPF iterator';
  }
}

export const noIterator: string | false = await whyNoIterator();
const byIterator = /BPF|snapshot by any|with devices|pinSync/;

/** Why a script of test/inject cannot run here, if so. */
export function whyNotScript(script: string): string | false {
  return byIterator.test(script) ? noIterator : noFences;
}
