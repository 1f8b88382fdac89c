// The helper of inject.cc, in words.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from '../support/programs.js';
import { type Call, type Injection, numberOf, timesOf } from './calls.js';

interface Helper {
  intercept(addon: string): string[];
  start(
    name?: string,
    detail?: number,
    nth?: number,
    times?: number,
    errno?: number,
    allocation?: number,
  ): void;
  stop(): number;
  outcome(): number;
  counts(): (string | number)[];
  look(): string[];
}

const helper = createRequire(import.meta.url)(
  join(packageRoot, 'test/inject/build/Release/inject.node'),
) as Helper;

/** What the addon may import without a system call of its own: Node-API, the C++ library, the C library's arithmetic. */
const harmless = new RegExp(
  [
    /^napi_|^node_api_|^uv_(close|strerror|err_name|is_closing|unref|ref|poll_stop|async_send|default_loop|backend_fd)$/,
    /^uv_(handle_|mutex_|cond_|sem_|thread_join)|^_Z|^_ITM_|^__cxa_|^__gmon_|^__(asan|ubsan|lsan|sanitizer|tsan)_/,
    /^__(errno_location|isoc\d+_|libc_single_threaded|stack_chk_fail|tls_get_addr)|^(mem|str|wcs)[a-z]+$/,
    /^v?(sn|s|fn)?printf$|^v?sscanf$|^(malloc|calloc|realloc|free|abort|qsort|bsearch|getpid|getppid|prctl|gettid|sysconf)$/,
    /^(pthread_(?!create)|sem_|sig|__sigsetjmp|siglongjmp|_?setjmp|_?longjmp|sigaction|raise|tgkill)/,
    /^(clock_gettime|nanosleep|clock_nanosleep|usleep|sched_yield|geteuid|getuid|getegid|getpagesize|dl_?iterate_phdr)$/,
    /^(dlsym|dladdr|getauxval|__getauxval|gnu_get_libc_version|closedir|fclose|fgets|getline|feof|secure_getenv|getenv)$/,
    /^__(mem|str|sn?printf|vsn?printf|fdelt)[a-z_]*chk$/,
    // Of a C++ library that is linked in, as in the package's binaries; what it prints, it prints before it aborts.
    /^(wmem[a-z]+|bcmp|aligned_alloc|strerror_r|stderr|fwrite|fputc|fflush|v?fprintf)$/,
  ]
    .map(({ source }) => source)
    .join('|'),
);

/** Where the dynamic linker has the addon from. */
function addonPath(): string {
  const paths = [...readFileSync('/proc/self/maps', 'latin1').matchAll(/ (\/.*\/dmabuf[^/\n]*\.node)$/gm)];
  const path = paths[0]?.[1];
  if (path === undefined) throw new Error('the addon is not loaded');
  return path;
}

/**
 * From now on the addon's calls can be counted and made to fail. Refuses when the addon makes calls that could not:
 * wrappers.cc has to know them first.
 */
export function intercept(): void {
  const unknown = helper.intercept(addonPath()).filter((name) => !harmless.test(name));
  if (unknown.length > 0) {
    throw new Error(
      `the addon calls ${unknown.join(', ')}: wrap it in test/inject/wrappers.cc, or call it harmless`,
    );
  }
}

/** Counts the calls from now on; with an injection, those fail. */
export function start(injection?: Injection): void {
  if (injection === undefined) helper.start();
  else {
    const { function: name, detail, nth, errno, allocation = 0 } = injection;
    const number = allocation > 0 ? 0 : numberOf(errno);
    helper.start(name, detail, nth, timesOf(injection), number, allocation);
  }
}

/** What the call came to whose allocation has failed: its errno, 0 where the kernel has coped; undefined where none has. */
export function allocationOutcome(): number | undefined {
  const number = helper.outcome();
  return number < 0 ? undefined : number;
}

/** No more fail. How many did. */
export function stop(): number {
  return helper.stop();
}

/** Which calls were made since `start()`, and how often each. */
export function counts(): (Call & { count: number })[] {
  const flat = helper.counts();
  const calls: (Call & { count: number })[] = [];
  for (let index = 0; index < flat.length; index += 3) {
    const [name, detail, count] = flat.slice(index, index + 3) as [string, number, number];
    calls.push({ function: name, detail, count });
  }
  return calls;
}

/** `"3 /dev/null"` for every descriptor, `"=7f..-7f.."` for every mapping of a dma-buf or memfd. */
export function look(): string[] {
  return helper.look();
}
