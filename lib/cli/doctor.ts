import type { Command } from 'commander';
import { escapeControls } from '../escape.js';
import { examine, type Finding } from '../inspect/doctor.js';
import { subcommand, withFormat } from './options.js';
import { bold, type Column, type Format, outputWidth, print, printRows } from './output.js';

const HELP = `
Each line is ok, warn (something useful does not work) or FAIL (something essential does not), with what to do about it.
It changes nothing. The answers depend on the user: run it as the user in question.
Exit status: 0 when everything essential works; 1 when not; 2 on errors.

Examples:
  dmabuf doctor
  dmabuf doctor --quiet          only what is not ok
  dmabuf doctor --json | jq '.[] | select(.status != "ok")'`;

/** `dmabuf doctor` */
export function doctorCommand(): Command {
  const description = 'Examines what dma-bufs need on this machine, and says how to fix what does not work.';
  return withFormat(subcommand('doctor', description, HELP), {
    quiet: 'leave out what is ok',
    hasSizes: false,
  }).action(report);
}

const columns: Column<Finding>[] = [
  { title: 'subject', value: ({ subject }) => subject },
  { title: 'status', value: ({ status }) => status },
  { title: 'text', value: ({ text }) => text },
  { title: 'fix', value: ({ fix }) => fix },
];

/** Words on lines no wider than the terminal, indented from the second on. */
export function wrap(text: string, indent: string, width: number): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) as string;
    if (last !== '' && indent.length + last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines.map((line) => indent + line);
}

async function report(format: Format): Promise<void> {
  const findings = await examine();
  if (findings.some(({ status }) => status === 'fail')) process.exitCode = 1;
  if (format.json || format.csv) return printRows(findings, columns, format, findings);
  const shown = format.quiet ? findings.filter(({ status }) => status !== 'ok') : findings;
  const indent = ' '.repeat(6);
  for (const { subject, status, text, fix } of shown) {
    const word = status === 'fail' ? bold('FAIL') : status.padEnd(4);
    const lines = wrap(`${subject}: ${escapeControls(text)}`, indent, outputWidth());
    print(`${word}  ${lines[0]?.trimStart()}`, ...lines.slice(1));
    if (fix !== undefined) print(...wrap(`-> ${escapeControls(fix)}`, indent, outputWidth()));
  }
}
