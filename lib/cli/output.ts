import { styleText } from 'node:util';
import { escapeControls, escapeName } from '../escape.js';
import type { Snapshot } from '../inspect/model.js';
import { adviceOnUnreadable, causesOf } from '../inspect/unreadable.js';
import { count, formatSize, toJson } from './text.js';

/** The format that the user has chosen. */
export interface Format {
  json?: boolean | undefined;
  csv?: boolean | undefined;
  /** Sizes as plain numbers. */
  bytes?: boolean | undefined;
  quiet?: boolean | undefined;
}

/** A column of a table, and a field of CSV. */
export interface Column<Row> {
  /** The field's name in CSV, and in capitals the heading of the table. */
  title: string;
  value: (row: Row) => string | number | undefined;
  /** The text in tables, if it differs from the value. It is already escaped. */
  text?: (row: Row, format: Format) => string;
  /** `size`: bytes. Both are aligned to the right. */
  kind?: 'number' | 'size';
  /** Whether this column becomes narrower first on a narrow terminal. */
  shrinks?: boolean;
}

const gap = 2;

/** How many columns of a terminal a text takes. */
type Measure = (text: string) => number;

/** In ASCII every character takes one: to load the library would double the work of `dmabuf ls`. */
async function measureFor(cells: readonly (readonly string[])[]): Promise<Measure> {
  if (cells.every((row) => row.every((cell) => /^[ -~]*$/.test(cell)))) return ({ length }) => length;
  return (await import('string-width')).default;
}

let graphemes: Intl.Segmenter | undefined;

/** The beginning of a text, with one column left for the mark of truncation. */
function cut(text: string, width: number, widthOf: Measure): string {
  graphemes ??= new Intl.Segmenter();
  let kept = '';
  let left = width - 1;
  for (const { segment } of graphemes.segment(text)) {
    left -= widthOf(segment);
    if (left < 0) break;
    kept += segment;
  }
  return `${kept}…`;
}

/** A text in exactly so many columns. */
function fit(text: string, width: number, toTheRight: boolean, widthOf: Measure): string {
  const taken = widthOf(text);
  if (taken <= width) {
    const space = ' '.repeat(width - taken);
    return toTheRight ? space + text : text + space;
  }
  const start = cut(text, width, widthOf);
  // Half of a wide character cannot be shown.
  return start + ' '.repeat(width - widthOf(start));
}

/** Narrows the widest of `candidates`, column by column, until all fit. */
function shrink(widths: number[], candidates: readonly number[], least: number, available: number): void {
  let excess = widths.reduce((sum, width) => sum + width, gap * (widths.length - 1)) - available;
  for (; excess > 0; excess--) {
    const widest = candidates.reduce(
      (a, b) => ((widths[b] as number) > (widths[a] as number) ? b : a),
      candidates[0] ?? 0,
    );
    if (candidates.length === 0 || (widths[widest] as number) <= least) return;
    (widths[widest] as number)--;
  }
}

function cellOf<Row>({ value, text, kind }: Column<Row>, row: Row, format: Format): string {
  if (text !== undefined) return text(row, format);
  const found = value(row);
  if (found === undefined || found === '') return '-';
  if (typeof found === 'string') return escapeName(found);
  return kind === 'size' ? formatSize(found, format.bytes) : String(found);
}

/** The lines of a table no wider than `width`; the first one has the headings. */
export async function formatTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  format: Format,
  width: number,
): Promise<string[]> {
  const cells = [
    columns.map(({ title }) => title.toUpperCase()),
    ...rows.map((row) => columns.map((column) => cellOf(column, row, format))),
  ];
  const widthOf = await measureFor(cells);
  const widths = columns.map((_, index) =>
    cells.reduce((widest, row) => Math.max(widest, widthOf(row[index] as string)), 1),
  );
  const all = [...columns.keys()];
  shrink(
    widths,
    all.filter((index) => columns[index]?.shrinks),
    8,
    width,
  );
  shrink(widths, all, 1, width);
  return cells.map((row) => {
    const fitted = row.map((cell, index) =>
      fit(cell, widths[index] as number, columns[index]?.kind !== undefined, widthOf),
    );
    return fitted.join(' '.repeat(gap)).trimEnd();
  });
}

/** The columns of the terminal; infinite if the output goes elsewhere, so that nothing is cut off. */
export function outputWidth(): number {
  return process.stdout.isTTY ? process.stdout.columns || 80 : Number.POSITIVE_INFINITY;
}

/** Bold on a terminal, unless NO_COLOR is set. Nothing else: FORCE_COLOR, which CI sets, would put it into files and pipes. */
export function bold(text: string, stream: NodeJS.WriteStream = process.stdout): string {
  const { FORCE_COLOR, ...env } = process.env;
  const isBold = stream.isTTY && stream.getColorDepth(env) > 1;
  return isBold ? styleText('bold', text, { validateStream: false }) : text;
}

/** Prints lines. */
export function print(...lines: string[]): void {
  process.stdout.write(lines.map((line) => `${line}\n`).join(''));
}

/** Prints a table. */
export async function printTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  format: Format,
): Promise<void> {
  const [headings = '', ...lines] = await formatTable(rows, columns, format, outputWidth());
  print(bold(headings), ...lines);
}

/**
 * CSV (RFC 4180). Names are escaped as in tables, so that a line is a row for every reader, and a field that a
 * spreadsheet would calculate begins with an apostrophe.
 */
export async function toCsv<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): Promise<string> {
  const { stringify } = await import('csv-stringify/sync');
  const records = rows.map((row) =>
    columns.map(({ value }) => {
      const field = value(row);
      return typeof field === 'string' ? escapeName(field) : field;
    }),
  );
  return stringify([columns.map(({ title }) => title), ...records], { escape_formulas: true });
}

/** Prints rows in the requested format; `json` is the content of JSON instead of the rows. */
export async function printRows<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  format: Format,
  json: unknown,
): Promise<void> {
  if (format.json) printJson(json);
  else if (format.csv) process.stdout.write(await toCsv(rows, columns));
  else await printTable(rows, columns, format);
}

/** Prints a value as JSON. */
export function printJson(value: unknown): void {
  print(toJson(value, 2));
}

/** Prints a message to the user on standard error, apart from the answer. */
export function note(command: string, text: string): void {
  process.stderr.write(`dmabuf ${command}: ${escapeControls(text.replace(/\s*\n\s*/g, ' '))}\n`);
}

/** What a snapshot could not see, in one or two sentences; none when it saw everything. */
export function describeUnseen({ unreadable, attempts, unaccounted }: Snapshot): string[] {
  const sentences: string[] = [];
  if (unreadable.length > 0) {
    const errors = causesOf(unreadable).join(', ');
    const processes = unreadable.length === 1 ? '1 process' : `${unreadable.length} processes`;
    const holders = unreadable.length === 1 ? 'it holds' : 'they hold';
    const advice = adviceOnUnreadable(unreadable);
    const said = `${processes} could not be read (${errors}): what ${holders} may be missing`;
    sentences.push(advice === undefined ? said : `${said}. ${advice}`);
  }
  // Other sources replace one another.
  const procfs = attempts.find(({ source }) => source === 'procfs');
  if (procfs !== undefined) sentences.push(procfs.error.message);
  else if (attempts.length > 0 && unaccounted === undefined) {
    const tried = attempts.map(({ source, error }) => `${source} (${error.code})`).join(', ');
    sentences.push(
      `buffers that no process holds are not seen: no ${tried}. 'dmabuf doctor' says what to do`,
    );
  }
  return sentences;
}

/** Says on standard error what could not be seen, unless a program reads the answer. */
export function noteUnseen(command: string, snapshot: Snapshot, { json, csv, quiet }: Format): void {
  if (json || csv || quiet) return;
  for (const sentence of describeUnseen(snapshot)) note(command, sentence);
}

/** The number of bytes and buffers in words. */
export function describeTotal({ buffers, size }: { buffers: number; size: number }, format: Format): string {
  return `${formatSize(size, format.bytes)} in ${count(buffers, 'buffer')}`;
}
