// What the C programs of the benchmark have in common: PROGRAM name rounds batches. Prints a line for each
// batch after a first one that does not count: nanoseconds per round, of this process's CPU time (under
// -icount: instructions), or of real time where BENCH_CLOCK is "wall".
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void die(const char* what) {
  perror(what);
  exit(1);
}

struct work {
  const char* name;
  void (*run)(void);
};

static clockid_t bench_clock(void) {
  const char* clock = getenv("BENCH_CLOCK");
  return clock && strcmp(clock, "wall") == 0 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
}

static double nanoseconds_of(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// `more`: nanoseconds that other processes have spent for the work; may be NULL.
static int measure(const struct work* works, char** arguments, double (*more)(void)) {
  const clockid_t clock = bench_clock();
  const int rounds = atoi(arguments[1]), batches = atoi(arguments[2]);
  for (; works->name && strcmp(works->name, arguments[0]) != 0; works++) continue;
  if (!works->name || rounds < 1) {
    fprintf(stderr, "there is no work named %s\n", arguments[0]);
    return 2;
  }
  for (int batch = -1; batch < batches; batch++) {
    const double start = nanoseconds_of(clock) + (more ? more() : 0);
    for (int round = 0; round < rounds; round++) works->run();
    const double end = nanoseconds_of(clock) + (more ? more() : 0);
    if (batch >= 0) printf("%.1f\n", (end - start) / rounds);
  }
  return 0;
}
