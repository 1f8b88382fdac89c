// Holds the lock of a perf event (argv: perf) or of an epoll (argv: epoll) for ever: a system call that has taken it writes into
// memory that userfaultfd(2) never provides. Sends the file over the channel that is descriptor 3, and says its number.

#include "channel.h"

#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

static const size_t page = 4096;
static void* absent;
static int held;
static int is_perf;

static void* hold(void* nothing) {
  if (is_perf) {
    if (read(held, absent, 64) < 0) fail("read");
  } else {
    check(epoll_wait(held, absent, 10, -1), "epoll_wait");
  }
  return nothing;
}

// A page that whoever touches it waits for.
static void make_absent(void) {
  const int faults = check((int)syscall(SYS_userfaultfd, O_CLOEXEC), "userfaultfd");
  struct uffdio_api api = {.api = UFFD_API};
  check(ioctl(faults, UFFDIO_API, &api), "UFFDIO_API");
  absent = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct uffdio_register range = {{(uintptr_t)absent, page}, UFFDIO_REGISTER_MODE_MISSING, 0};
  check(ioctl(faults, UFFDIO_REGISTER, &range), "UFFDIO_REGISTER");
}

static int open_perf_event(void) {
  struct perf_event_attr event = {
      .type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_DUMMY, .exclude_kernel = 1};
  return check((int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC), "perf_event_open");
}

static int open_epoll(void) {
  const int epoll = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  struct epoll_event event = {.events = EPOLLIN};
  check(epoll_ctl(epoll, EPOLL_CTL_ADD, check(eventfd(1, EFD_CLOEXEC), "eventfd"), &event), "epoll_ctl");
  return epoll;
}

// Whether the thread sleeps in the kernel.
static int is_asleep(pid_t thread) {
  char path[64];
  char text[256] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  const int file = check(open(path, O_RDONLY | O_CLOEXEC), "open");
  check((int)read(file, text, sizeof text - 1), "read");
  close(file);
  const char* end = strrchr(text, ')');
  return end != NULL && (end[2] == 'S' || end[2] == 'D');
}

static pid_t thread_number;

static void* begin(void* nothing) {
  __atomic_store_n(&thread_number, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
  return hold(nothing);
}

int main(int count, char** arguments) {
  is_perf = count > 1 && strcmp(arguments[1], "perf") == 0;
  make_absent();
  held = is_perf ? open_perf_event() : open_epoll();
  pthread_t thread;
  if (pthread_create(&thread, NULL, begin, NULL) != 0) fail("pthread_create");
  pid_t number;
  while ((number = __atomic_load_n(&thread_number, __ATOMIC_ACQUIRE)) == 0 || !is_asleep(number)) usleep(1000);
  check(try_send(3, "x", 1, &held, 1, 0), "sendmsg");
  say("%d", held);
  for (;;) pause();
}
