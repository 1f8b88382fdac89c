// Holds a lock of the kernel for ever: a system call that has taken it writes into memory that userfaultfd(2) never provides.
// argv: whose lock, and with how many bytes the file goes over the channel that is descriptor 3. Says the file's number.
//   perf, epoll, socket  its own: of a perf event, an epoll, a Unix socket
//   watched              of an epoll that watches the file, which is a dma-buf; it has no other descriptor of that left
//   returned             the same, of a dma-buf that it was sent before
//   nesting              the kernel's one lock for epolls that others watch: a call that looks whether they watch one another
//                        waits for an epoll whose own lock is held; there is no channel
//   swap                 of an epoll, and there is no channel: the number is in turn that epoll and a dma-buf, as fast as it can,
//                        so that who looks which of them it is finds the other one afterwards

#include "channel.h"

#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

static const size_t page = 4096;
static void* absent;
static int held;  // whose lock it is
static int (*hold)(void);

static int read_event(void) { return (int)read(held, absent, 64); }
static int wait_for_events(void) { return epoll_wait(held, absent, 10, -1); }
static int receive_bytes(void) { return (int)recv(held, absent, 64, 0); }

// A page that blocks every access to it.
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

// Of files that are ready, or it would not look for events.
static int open_epoll(int watched) {
  const int epoll = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  struct epoll_event event = {.events = EPOLLIN};
  check(epoll_ctl(epoll, EPOLL_CTL_ADD, watched, &event), "epoll_ctl");
  return epoll;
}

static int open_full_socket(void) {
  int ends[2];
  check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
  check((int)send(ends[1], "x", 1, 0), "send");
  return ends[0];
}

static int receive_file(void) {
  char byte;
  int file = -1;
  size_t count = 1;
  check((int)try_receive(3, &byte, 1, &file, &count, 0), "recvmsg");
  return file;
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

static void* begin(void* call) {
  __atomic_store_n(&thread_number, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
  check((*(int (**)(void))call)(), "the call that holds the lock");
  return NULL;
}

// Has a thread make the call, and waits until it sleeps in it.
static void call_for_ever(int (*call)(void)) {
  static int (*calls[2])(void);
  static int count;
  calls[count] = call;
  thread_number = 0;
  pthread_t thread;
  if (pthread_create(&thread, NULL, begin, &calls[count++]) != 0) fail("pthread_create");
  pid_t number;
  while ((number = __atomic_load_n(&thread_number, __ATOMIC_ACQUIRE)) == 0 || !is_asleep(number)) usleep(1000);
}

static int nest(void) { return open_epoll(held); }

static void swap(void) {
  const int buffer = allocate(page);
  const int number = check(dup(buffer), "dup");
  say("%d", number);
  for (;;) {
    check(dup3(held, number, O_CLOEXEC), "dup3");
    check(dup3(buffer, number, O_CLOEXEC), "dup3");
  }
}

int main(int count, char** arguments) {
  const char* kind = count > 1 ? arguments[1] : "";
  const size_t bytes = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
  make_absent();
  int file = -1;
  hold = wait_for_events;
  if (strcmp(kind, "perf") == 0) {
    held = file = open_perf_event();
    hold = read_event;
  } else if (strcmp(kind, "socket") == 0) {
    held = file = open_full_socket();
    hold = receive_bytes;
  } else if (strcmp(kind, "epoll") == 0 || strcmp(kind, "swap") == 0 || strcmp(kind, "nesting") == 0) {
    held = file = open_epoll(check(eventfd(1, EFD_CLOEXEC), "eventfd"));
  } else {
    file = strcmp(kind, "watched") == 0 ? allocate(page) : receive_file();
    held = open_epoll(file);
  }
  call_for_ever(hold);
  if (strcmp(kind, "swap") == 0) swap();
  if (strcmp(kind, "nesting") == 0) {
    call_for_ever(nest);
    say("locked");
    for (;;) pause();
  }
  if (strcmp(kind, "returned") == 0) {
    close(file);
    send_text(3, "locked");
  } else {
    char* data = calloc(1, bytes);
    check(try_send(3, data, bytes, &file, 1, 0), "sendmsg");
    if (strcmp(kind, "watched") == 0) close(file);
  }
  say("%d", file);
  for (;;) pause();
}
