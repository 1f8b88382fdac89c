// The C side of the benchmark: the same work as bench/works.ts, on the same kernel interfaces, in the same
// boot.
//
// bench name rounds batches      a work, as measure.h says
// bench spawn runs command ...   starts a command so often: a line for each run

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

enum { kTiny = 64, kSmall = 4096, kRange = 64 << 10, kLarge = 1 << 20, kFrame = 1920 * 1080 * 4 };

static int heap_fd;
static int buffer_fd;
static unsigned char* buffer_bytes;
static unsigned char* memory;
static uint64_t sink;

static int xioctl(int fd, unsigned long request, void* argument) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && (errno == EINTR || errno == EAGAIN));
  return result;
}

static int allocate(size_t size) {
  struct dma_heap_allocation_data data = {.len = size, .fd_flags = O_RDWR | O_CLOEXEC};
  if (xioctl(heap_fd, DMA_HEAP_IOCTL_ALLOC, &data) < 0) die("DMA_HEAP_IOCTL_ALLOC");
  return (int)data.fd;
}

static void synchronise(uint64_t flags) {
  struct dma_buf_sync request = {.flags = flags};
  if (xioctl(buffer_fd, DMA_BUF_IOCTL_SYNC, &request) < 0) die("DMA_BUF_IOCTL_SYNC");
}

static void sync_pair(void) {
  synchronise(DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
  synchronise(DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
}

static void allocate_small(void) { close(allocate(kSmall)); }
static void allocate_large(void) { close(allocate(kLarge)); }

struct info {
  unsigned long long inode, size, references, flags;
  char exporter[64];
  char name[64];
};

static void info(void) {
  char path[64];
  char text[1024];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", buffer_fd);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(path);
  size_t length = 0;
  ssize_t count;
  while (length < sizeof text - 1 && (count = read(fd, text + length, sizeof text - 1 - length)) > 0) {
    length += (size_t)count;
  }
  close(fd);
  text[length] = '\0';

  struct info result = {0};
  for (char *line = text, *end; *line != '\0'; line = end + 1) {
    if (strncmp(line, "name:\t", 6) == 0) {
      size_t bytes = strlen(line + 6);
      if (bytes > sizeof result.name) bytes = sizeof result.name;
      if (bytes > 0) memcpy(result.name, line + 6, bytes - 1);
      break;
    }
    end = strchr(line, '\n');
    if (end == NULL) break;
    if (strncmp(line, "size:\t", 6) == 0)
      result.size = strtoull(line + 6, NULL, 10);
    else if (strncmp(line, "count:\t", 7) == 0)
      result.references = strtoull(line + 7, NULL, 10);
    else if (strncmp(line, "ino:\t", 5) == 0)
      result.inode = strtoull(line + 5, NULL, 10);
    else if (strncmp(line, "flags:\t", 7) == 0)
      result.flags = strtoull(line + 7, NULL, 8);
    else if (strncmp(line, "exp_name:\t", 10) == 0) {
      size_t bytes = (size_t)(end - line) - 10;
      if (bytes >= sizeof result.exporter) bytes = sizeof result.exporter - 1;
      memcpy(result.exporter, line + 10, bytes);
    }
  }
  if (result.size != kLarge || strcmp(result.exporter, "system") != 0 || strcmp(result.name, "bench") != 0) {
    die("fdinfo");
  }
  sink += result.references;
}

static void map_unmap(size_t length) {
  void* address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, buffer_fd, 0);
  if (address == MAP_FAILED) die("mmap");
  munmap(address, length);
}

static void map_range(void) { map_unmap(kRange); }
static void map_large(void) { map_unmap(kLarge); }

static void read_bytes(size_t length) {
  synchronise(DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
  memcpy(memory, buffer_bytes, length);
  synchronise(DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
}

static void write_bytes(size_t length) {
  synchronise(DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
  memcpy(buffer_bytes, memory, length);
  synchronise(DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
}

static void read_tiny(void) { read_bytes(kTiny); }
static void read_small(void) { read_bytes(kSmall); }
static void read_large(void) { read_bytes(kLarge); }
static void write_small(void) { write_bytes(kSmall); }
static void write_large(void) { write_bytes(kLarge); }

static int copy_of(int fd) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) die("F_DUPFD_CLOEXEC");
  return copy;
}

// Whether it is a dma-buf, and which.
static void look_at(int fd) {
  struct statfs system;
  struct stat status;
  if (fstatfs(fd, &system) < 0 || system.f_type != 0x444d4142 || fstat(fd, &status) < 0) die("a dma-buf");
  sink += status.st_ino;
}

static void import_and_close(void) {
  const int copy = copy_of(buffer_fd);
  look_at(copy);
  close(copy);
}

static void duplicate_and_close(void) { close(copy_of(buffer_fd)); }

// What is taken over is looked at, and closed in exec() from now on.
static void adopt_and_release(void) {
  look_at(buffer_fd);
  if (fcntl(buffer_fd, F_SETFD, FD_CLOEXEC) < 0) die("F_SETFD");
}

static void is_ready(void) {
  struct pollfd request = {.fd = buffer_fd, .events = POLLOUT};
  if (poll(&request, 1, 0) != 1) die("poll");
}

static void access_when_ready(void) {
  is_ready();
  sync_pair();
}

// A pool that has one buffer: acquire() takes one that no device uses, release() puts it back.
static int pool[4];
static int idle;

static void acquire_and_release(void) {
  const int fd = pool[--idle];
  struct pollfd request = {.fd = fd, .events = POLLOUT};
  if (poll(&request, 1, 0) != 1) die("poll");
  pool[idle++] = fd;
}

static int sync_file_fd;

// One call with room for some fences; a second one only when there are more.
static void sync_file_information(void) {
  struct sync_fence_info fences[8];
  struct sync_file_info request = {.num_fences = 8, .sync_fence_info = (uintptr_t)fences};
  if (xioctl(sync_file_fd, SYNC_IOC_FILE_INFO, &request) < 0) die("SYNC_IOC_FILE_INFO");
  sink += request.num_fences + (fences[0].status == 1) + (uint64_t)(fences[0].driver_name[0] != 0);
}

static int ends[2];
static char data[kRange];

enum { kMostHandles = 253 };
static union {
  char bytes[CMSG_SPACE(kMostHandles * sizeof(int))];
  struct cmsghdr header;
} control;

static void send_message(size_t length, int handles) {
  struct iovec vector = {.iov_base = data, .iov_len = length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (handles > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE((size_t)handles * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN((size_t)handles * sizeof(int));
    int* fds = (int*)(void*)CMSG_DATA(&control.header);
    for (int index = 0; index < handles; index++) fds[index] = buffer_fd;
  }
  if (sendmsg(ends[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)length) die("sendmsg");
}

// Returns whether there was one, and closes what came with it.
static int receive_message(size_t length) {
  struct iovec vector = {.iov_base = data, .iov_len = sizeof data};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  const ssize_t count = recvmsg(ends[1], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (count < 0 && errno == EAGAIN) return 0;
  if (count != (ssize_t)length || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) die("recvmsg");
  if (message.msg_controllen == 0) return 1;
  const int* fds = (const int*)(const void*)CMSG_DATA(&control.header);
  const size_t handles = (control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t index = 0; index < handles; index++) close(fds[index]);
  return 1;
}

static void pass(size_t length, int handles) {
  send_message(length, handles);
  if (!receive_message(length)) die("recvmsg");
}

static void message_of_one(void) { pass(16, 1); }
static void message_of_16(void) { pass(16, 16); }
static void message_of_253(void) { pass(16, 253); }
static void message_of_data(void) { pass(kRange, 0); }

// Nothing is there yet when it is asked for.
static void message_waited_for(void) {
  if (receive_message(16)) die("an early message");
  send_message(16, 1);
  struct pollfd request = {.fd = ends[1], .events = POLLIN};
  if (poll(&request, 1, -1) != 1 || !receive_message(16)) die("poll");
}

// A frame through a pipe to another process, which says when it has all of it.
static int to_child = -1, from_child = -1;
static pid_t child;
static unsigned char* frame;

static void take_all(int fd, unsigned char* bytes, size_t length) {
  for (size_t taken = 0; taken < length;) {
    const ssize_t count = read(fd, bytes + taken, length - taken);
    if (count <= 0) exit(0);
    taken += (size_t)count;
  }
}

static void start_child(void) {
  int there[2], back[2];
  frame = malloc(kFrame);
  if (frame == NULL || pipe(there) < 0 || pipe(back) < 0) die("pipe");
  memset(frame, 1, kFrame);
  child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    close(there[1]);
    for (;;) {
      take_all(there[0], frame, kFrame);
      if (write(back[1], "", 1) != 1) exit(0);
    }
  }
  close(there[0]);
  to_child = there[1];
  from_child = back[0];
}

static void frame_by_pipe(void) {
  for (size_t sent = 0; sent < kFrame;) {
    const ssize_t count = write(to_child, frame + sent, kFrame - sent);
    if (count < 0) die("write");
    sent += (size_t)count;
  }
  unsigned char byte;
  take_all(from_child, &byte, 1);
}

// What the child has used; nothing where it is real time that counts.
static double of_child(void) {
  clockid_t clock;
  if (child == 0 || bench_clock() == CLOCK_MONOTONIC) return 0;
  if (clock_getcpuclockid(child, &clock) != 0) die("clock_getcpuclockid");
  return nanoseconds_of(clock);
}

static double in_nanoseconds(struct timeval time) {
  return (double)time.tv_sec * 1e9 + (double)time.tv_usec * 1e3;
}

static int spawn(int runs, char** command) {
  for (int run = 0; run < runs; run++) {
    const double start = nanoseconds_of(CLOCK_MONOTONIC);
    const pid_t started = fork();
    if (started < 0) die("fork");
    if (started == 0) {
      const int nowhere = open("/dev/null", O_WRONLY);
      if (nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0) die("/dev/null");
      execvp(command[0], command);
      die(command[0]);
    }
    int status;
    struct rusage usage;
    if (wait4(started, &status, 0, &usage) < 0) die("wait4");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return 1;
    const double wall = nanoseconds_of(CLOCK_MONOTONIC) - start;
    const double cpu = in_nanoseconds(usage.ru_utime) + in_nanoseconds(usage.ru_stime);
    printf("%.0f\n", bench_clock() == CLOCK_MONOTONIC ? wall : cpu);
  }
  return 0;
}

static const struct work works[] = {
    {"sync", sync_pair},
    {"access", access_when_ready},
    {"allocate4k", allocate_small},
    {"allocate1m", allocate_large},
    {"info", info},
    {"isReady", is_ready},
    {"syncFileInfo", sync_file_information},
    {"import", import_and_close},
    {"dup", duplicate_and_close},
    {"adopt", adopt_and_release},
    {"pool", acquire_and_release},
    {"message", message_of_one},
    {"message16", message_of_16},
    {"message253", message_of_253},
    {"data64k", message_of_data},
    {"waiting", message_waited_for},
    {"map64k", map_range},
    {"map1m", map_large},
    {"read64", read_tiny},
    {"read4k", read_small},
    {"read1m", read_large},
    {"write4k", write_small},
    {"write1m", write_large},
    {"frame", frame_by_pipe},
    {NULL, NULL},
};

int main(int count, char** arguments) {
  if (count > 3 && strcmp(arguments[1], "spawn") == 0) return spawn(atoi(arguments[2]), arguments + 3);
  if (count != 4) {
    fprintf(stderr, "usage: bench name rounds batches | bench spawn runs command ...\n");
    return 2;
  }
  heap_fd = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
  if (heap_fd < 0) die("/dev/dma_heap/system");
  buffer_fd = allocate(kLarge);
  if (xioctl(buffer_fd, DMA_BUF_SET_NAME_B, "bench") < 0) die("DMA_BUF_SET_NAME");
  buffer_bytes = mmap(NULL, kLarge, PROT_READ | PROT_WRITE, MAP_SHARED, buffer_fd, 0);
  memory = malloc(kLarge);
  if (buffer_bytes == MAP_FAILED || memory == NULL) die("memory");
  memset(memory, 1, kLarge);
  pool[idle++] = buffer_fd;

  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) die("socketpair");
  struct dma_buf_export_sync_file export = {.flags = DMA_BUF_SYNC_RW, .fd = -1};
  if (xioctl(buffer_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export) < 0) die("DMA_BUF_IOCTL_EXPORT_SYNC_FILE");
  sync_file_fd = export.fd;
  if (strcmp(arguments[1], "frame") == 0) start_child();
  const int status = measure(works, arguments + 1, of_child);
  if (child != 0) {
    close(to_child);
    waitpid(child, NULL, 0);
  }
  return sink == UINT64_MAX ? 1 : status;
}
