import { escapeControls } from '../escape.js';
import type { Snapshot } from '../inspect/model.js';
import {
  bufferColumns,
  bufferKeys,
  exporterColumns,
  exporterKeys,
  growingProcessColumns,
  growingProcessKeys,
  withGrowth,
} from './buffers.js';
import { bold, type Column, describeTotal, describeUnseen, type Format, formatTable } from './output.js';
import { type SortKeys, sortRows } from './sorting.js';

/** What top can list. */
export type View = 'buffers' | 'processes' | 'exporters';

const views: readonly View[] = ['buffers', 'processes', 'exporters'];

const keysOf: Readonly<Record<View, SortKeys<never>>> = {
  buffers: bufferKeys,
  processes: growingProcessKeys,
  exporters: exporterKeys,
};

/** The columns that a view can be sorted by; the first one is the default. */
export function sortColumns(view: View): string[] {
  return Object.keys(keysOf[view]);
}

/** What the user has chosen with the keyboard. */
export interface TopState {
  view: View;
  /** By view: the column that it is sorted by. */
  sort: Record<View, string>;
  reverse: boolean;
  /** The first row that is shown. */
  scroll: number;
  paused: boolean;
  help: boolean;
  /** Milliseconds. */
  interval: number;
  done: boolean;
}

/** The initial state of top. */
export function initialState(view: View, interval: number): TopState {
  const sort = { buffers: 'size', processes: 'rss', exporters: 'size' };
  return { view, sort, reverse: false, scroll: 0, paused: false, help: false, interval, done: false };
}

const intervals = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

const faster = (now: number): number => intervals.filter((interval) => interval < now).at(-1) ?? now;
const slower = (now: number): number => intervals.find((interval) => interval > now) ?? now;

function sortedBy({ view, sort }: TopState, step: number): Partial<TopState> {
  const columns = sortColumns(view);
  const next = columns[(columns.indexOf(sort[view]) + step + columns.length) % columns.length] as string;
  return { sort: { ...sort, [view]: next } };
}

function changeBy(state: TopState, key: string, page: number): Partial<TopState> {
  const { view, scroll, interval } = state;
  const look = (next: View): Partial<TopState> => ({ view: next, scroll: 0 });
  switch (key) {
    case 'q':
      return { done: true };
    case 'j':
    case 'down':
      return { scroll: scroll + 1 };
    case 'k':
    case 'up':
      return { scroll: scroll - 1 };
    case 'pagedown':
      return { scroll: scroll + page };
    case 'pageup':
      return { scroll: scroll - page };
    case 'g':
    case 'home':
      return { scroll: 0 };
    case 'G':
    case 'end':
      return { scroll: Number.MAX_SAFE_INTEGER };
    case 's':
    case '>':
      return sortedBy(state, 1);
    case '<':
      return sortedBy(state, -1);
    case 'r':
      return { reverse: !state.reverse };
    case 'b':
      return look('buffers');
    case 'p':
      return look('processes');
    case 'e':
      return look('exporters');
    case 'tab':
      return look(views[(views.indexOf(view) + 1) % views.length] as View);
    case 'space':
      return { paused: !state.paused };
    case '+':
      return { interval: faster(interval) };
    case '-':
      return { interval: slower(interval) };
    case 'h':
    case '?':
      return { help: true };
    default:
      return {};
  }
}

/** The state after a key; `page` is how many rows the screen has. Any key ends the help. */
export function afterKey(state: TopState, key: string, page: number): TopState {
  if (state.help) return { ...state, help: false, done: key === 'q' };
  const next = { ...state, ...changeBy(state, key, page) };
  return { ...next, scroll: Math.max(0, next.scroll) };
}

const helpLines = [
  'b p e  buffers, processes, exporters; Tab: the next of them',
  's > <  sort by the next column, the next, the one before',
  'r      reverse the order',
  'j k    scroll, as the arrows, Page Up and Down, g and G do',
  'space  pause, and go on',
  '+ -    refresh more often, less often',
  'q      quit, as Ctrl-C does',
  '',
  'Any key ends this help.',
];

/** The lines of a snapshot's table in one view; growth is relative to `first`. */
export function tableOf(
  taken: Snapshot,
  { view, sort, reverse }: Pick<TopState, 'view' | 'sort' | 'reverse'>,
  format: Format,
  width: number,
  first: Snapshot = taken,
): Promise<string[]> {
  const table = <Row>(
    rows: readonly Row[],
    keys: SortKeys<Row>,
    columns: readonly Column<Row>[],
  ): Promise<string[]> =>
    formatTable(sortRows(rows, keys, { sort: sort[view], reverse }), columns, format, width);
  if (view === 'buffers') return table(taken.buffers, bufferKeys, bufferColumns(taken.processes));
  if (view === 'processes') {
    const rows = withGrowth(taken.processes, first.processes);
    return table(rows, growingProcessKeys, growingProcessColumns);
  }
  return table(taken.exporters, exporterKeys, exporterColumns);
}

/** One line above the table: the time and the total. */
export function summaryOf(
  { time, total, unaccounted, processes, unreadable }: Snapshot,
  format: Format,
): string {
  const unheld = unaccounted?.buffers
    ? `, ${describeTotal(unaccounted, format)} held by no visible process`
    : '';
  const unread = unreadable.length > 0 ? `, ${unreadable.length} processes unreadable` : '';
  const clock = time.toTimeString().slice(0, 8);
  return `dmabuf top  ${clock}  ${describeTotal(total, format)}, ${processes.length} processes${unheld}${unread}`;
}

/** The lines of the whole screen, and the state with `scroll` limited to the rows. */
export async function renderScreen(
  taken: Snapshot | undefined,
  state: TopState,
  format: Format,
  { columns, rows }: { columns: number; rows: number },
  first?: Snapshot,
): Promise<{ lines: string[]; state: TopState }> {
  const cut = (line: string): string =>
    line.length > columns ? `${line.slice(0, Math.max(0, columns - 1))}…` : line;
  if (taken === undefined) return { lines: ['dmabuf top: looking …'].map(cut), state };
  const { view, sort, reverse, paused, interval, help } = state;
  const order = `${view} by ${sort[view]}${reverse ? ', reversed' : ''}`;
  const status = `${order}  ${paused ? 'PAUSED' : `every ${interval / 1000} s`}  h: help  q: quit`;
  const unseen = format.quiet ? undefined : describeUnseen(taken)[0];
  const head = [bold(cut(summaryOf(taken, format))), cut(status)];
  if (unseen !== undefined) head.push(cut(escapeControls(unseen)));
  head.push('');
  const room = Math.max(0, rows - head.length);
  if (help) return { lines: [...head, ...helpLines.map(cut)].slice(0, rows), state };
  const [headings = '', ...body] = await tableOf(taken, state, format, columns, first);
  const scroll = Math.min(state.scroll, Math.max(0, body.length - Math.max(1, room - 1)));
  const shown = [bold(headings), ...body.slice(scroll, scroll + Math.max(0, room - 1))];
  return { lines: [...head, ...shown].slice(0, rows), state: { ...state, scroll } };
}
