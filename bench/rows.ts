// The rows of `npm run bench`. What is measured is named by a kind and a name: `c` is a work of bench.c, `scan` that of
// inspect.c, `js` one of works.ts, `python` one of peers.py, and `run` a command of guest.ts that is started and ends.

/** Something to be measured. What `run` returns is awaited. */
export interface Work {
  run(): unknown;
  /** Nanoseconds of CPU time that other processes have used for it so far. */
  ofOthers?(): Promise<number>;
}

/** What is measured: its kind and its name. */
export type Measured = `${'c' | 'scan' | 'js' | 'python' | 'run'} ${string}`;

/** Ours, compared with something else that does the same work. */
export interface Row {
  name: string;
  label: string;
  ours: Measured;
  base: Measured;
  /** How often a batch does it. */
  rounds: number;
  /** The most that ours may cost, as a ratio. */
  bar: number;
  /** Whether it is measured with `--short`. */
  isShort?: true;
  /** Whether it is measured beside 50 processes with 5 000 buffers and 300 that are idle. */
  isCrowded?: true;
}

type Options = Pick<Row, 'isShort' | 'isCrowded'>;

/** Against the work of the same name in C. */
function againstC(name: string, label: string, rounds: number, bar: number, options: Options = {}): Row {
  return { name, label, ours: `js ${name}`, base: `c ${name}`, rounds, bar, ...options };
}

/** Ours against another way to do the same. */
function against(base: Measured, ours: Measured, label: string, rounds: number, bar: number): Row {
  return { name: `${ours} / ${base}`, label, ours, base, rounds, bar };
}

const short: Options = { isShort: true };
const crowded: Options = { isCrowded: true };

export const rows: readonly Row[] = [
  againstC('sync', 'cpuAccessSync() + end()', 4_000, 1.8, short),
  { ...againstC('withSync', 'withCpuAccessSync()', 4_000, 2), base: 'c sync' },
  againstC('access', 'await cpuAccess() + end(), no fence', 2_000, 4.2, short),
  againstC('isReady', 'isReady()', 5_000, 2.5),
  { ...againstC('ready', 'await ready(), no fence', 4_000, 3), base: 'c isReady' },
  againstC('info', 'info()', 1_000, 1.6, short),
  againstC('syncFileInfo', 'SyncFile.info(), one fence', 2_000, 2),
  againstC('import', 'import() + close()', 3_000, 3.2, short),
  againstC('dup', 'dup() + close()', 3_000, 4.5),
  againstC('adopt', 'adopt() + release()', 3_000, 5.8),
  againstC('allocate4k', 'heap.allocateSync() + close(), 4 KiB', 1_000, 1.45, short),
  againstC('allocate1m', 'heap.allocateSync() + close(), 1 MiB', 50, 1.2),
  {
    ...againstC('allocateDefault', 'allocateSync(), 4 KiB / C: from an open heap', 400, 5.6, short),
    base: 'c allocate4k',
  },
  { ...againstC('allocateAsync', 'await allocate(), 4 KiB / the same', 400, 15), base: 'c allocate4k' },
  {
    ...againstC(
      'allocateAbsent',
      "allocateSync() from ['cma', 'system'] without CMA / the same",
      100,
      7.5,
      short,
    ),
    base: 'c allocate4k',
  },
  againstC('pool', 'pool: acquire() + release()', 3_000, 9, short),
  againstC('map64k', 'map() + unmap(), 64 KiB', 500, 2.1, short),
  againstC('map1m', 'map() + unmap(), 1 MiB', 100, 1.3, short),
  againstC('read64', 'read(), 64 B', 4_000, 3.7),
  againstC('read4k', 'read(), 4 KiB', 4_000, 2.8, short),
  againstC('read1m', 'read(), 1 MiB', 50, 1.15),
  againstC('write4k', 'write(), 4 KiB', 4_000, 2.8),
  againstC('write1m', 'write(), 1 MiB', 50, 1.15),
  {
    ...againstC('sumMapped', 'sum of 1 MiB in JavaScript: mapping / ordinary memory', 10, 1.2),
    base: 'js sumOrdinary',
  },
  againstC('message', 'message with a buffer that is there: send, receive, close', 1_000, 3.4, short),
  againstC('message16', 'the same with 16', 200, 6.6),
  againstC('message253', 'the same with 253', 20, 12),
  againstC('data64k', 'message with 64 KiB of data and no buffer', 200, 6.5),
  againstC('waiting', 'message with a buffer that is waited for', 500, 6, short),
  againstC('frame', 'frame of 8.3 MB to another process, CPU of both / C: pipe', 4, 0.1),

  against('python sync', 'js sync', 'cpuAccessSync() + end() / Python: fcntl.ioctl()', 4_000, 1),
  against('js koffiSync', 'js sync', 'cpuAccessSync() + end() / koffi: ioctl()', 4_000, 1.3),
  against('python message', 'js message', 'message with a buffer / Python: send_fds(), recv_fds()', 1_000, 1),
  against('js pipeFrame', 'js frame', 'frame to another process / Node.js: pipe', 4, 0.1),
  against('js socketFrame', 'js frame', 'frame to another process / Node.js: net.Socket', 4, 0.1),
  against('js postFrame', 'js frame', 'frame to another process / postMessage() to a worker', 4, 0.1),

  { ...against('run empty', 'run import', "import 'dmabuf' / an empty module", 1, 1.7), ...short },
  { ...against('run nothing', 'run ls', 'dmabuf ls / node -e 0', 1, 3.3), ...short },
  against('run nothing', 'run ps', 'dmabuf ps / node -e 0', 1, 3.5),

  {
    ...against('scan scan', 'js procfs', 'snapshot() from procfs: 5 000 buffers, 350 processes / C', 2, 1.5),
    ...crowded,
  },
  { ...against('js procfs', 'js bpf', 'snapshot() from BPF / from procfs', 2, 0.2), ...crowded },
  { ...against('run lsof', 'run ps', 'dmabuf ps / lsof, 5 000 buffers', 1, 0.6), ...crowded },
];
