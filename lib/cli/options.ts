import { Command, InvalidArgumentError, Option } from 'commander';
import { escapeLines } from '../escape.js';
import { parseSize } from './text.js';

/** A subcommand; its file is loaded only when it is used. */
export interface Subcommand {
  name: string;
  summary: string;
  load: () => Promise<Command>;
}

/** Makes a command escape what it repeats of wrong arguments: a pattern of the shell turns the names of files into arguments. */
export function safeErrors(command: Command): Command {
  return command.configureOutput({ outputError: (text, write) => write(escapeLines(text)) });
}

/** A subcommand with its help; a wrong usage throws, and main.ts sets the status. */
export function subcommand(name: string, description: string, help: string): Command {
  return safeErrors(new Command(`dmabuf ${name}`))
    .description(description)
    .exitOverride()
    .showHelpAfterError(`(dmabuf ${name} --help shows how it is used)`)
    .addHelpText('after', `\n${help.trim()}`);
}

/**
 * The options of every subcommand that prints rows; `quiet` describes what is left out; there are sizes unless stated
 * otherwise.
 */
export function withFormat(
  command: Command,
  {
    quiet = 'do not report what could not be seen',
    hasSizes = true,
  }: { quiet?: string; hasSizes?: boolean } = {},
): Command {
  command
    .addOption(new Option('--json', 'print JSON').conflicts('csv'))
    .option('--csv', 'print comma-separated values');
  if (hasSizes) command.option('--bytes', 'print sizes in bytes');
  return command.option('-q, --quiet', quiet);
}

/** The options of every subcommand that takes snapshots. */
export function withSource(command: Command): Command {
  return command.addOption(
    new Option('--source <source>', 'the kernel interface to read')
      .choices(['auto', 'procfs', 'bpf', 'debugfs', 'sysfs'])
      .default('auto'),
  );
}

/** A whole number from `least`. */
export function whole(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > Number.MAX_SAFE_INTEGER) {
      throw new InvalidArgumentError(`It must be a whole number from ${least}.`);
    }
    return value;
  };
}

/** Seconds, as milliseconds. */
export function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value > 2_000_000)
    throw new InvalidArgumentError('It must be a number of seconds.');
  return value * 1000;
}

/** A size with its unit, as bytes. */
export function size(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('It must be a size such as 4096, 64k, 1.5M or 2G.');
  return bytes;
}

/** A process id. */
export function pid(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 2 ** 31 - 1)
    throw new InvalidArgumentError('It must be a process id.');
  return value;
}

/** Process ids, separated by commas or in repeated options. */
export function pids(text: string, earlier: readonly number[] = []): number[] {
  return [...earlier, ...text.split(',').map(pid)];
}
