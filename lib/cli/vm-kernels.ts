import { type KernelRun, type KernelsOptions, runOnKernels } from '../vm/index.js';
import { bold, type Column, formatTable } from './output.js';
import { statusOf } from './vm-status.js';

const columns: readonly Column<KernelRun>[] = [
  { title: 'kernel', value: ({ kernel }) => kernel, shrinks: true },
  { title: 'release', value: ({ release }) => release, shrinks: true },
  { title: 'status', value: statusOf, kind: 'number' },
  {
    title: 'seconds',
    value: ({ duration }) => duration / 1000,
    text: ({ duration }) => (duration / 1000).toFixed(1),
    kind: 'number',
  },
  // Failures that the messages above explain.
  { title: 'result', value: resultOf, shrinks: true },
];

function resultOf({ exitCode, error }: KernelRun): string {
  if (error !== undefined) return error.code;
  return exitCode === 0 ? 'passed' : 'failed';
}

/**
 * Runs the command on several kernels and prints a table of the results on standard error: standard output has only the
 * command's own output.
 */
export async function runAndTabulate(options: KernelsOptions): Promise<KernelRun[]> {
  const runs = await runOnKernels(options);
  const { isTTY } = process.stderr;
  const width = isTTY ? process.stderr.columns || 80 : Number.POSITIVE_INFINITY;
  const [headings = '', ...lines] = await formatTable(runs, columns, {}, width);
  process.stderr.write(['', bold(headings, process.stderr), ...lines, ''].join('\n'));
  return runs;
}
