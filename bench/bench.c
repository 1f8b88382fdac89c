// The C side of the benchmark: the same work as bench/guest.ts, on the same kernel interfaces, in the same
// boot. Prints one line a row: name, tab, nanoseconds of CPU time per round (under -icount: instructions).
//
// bench cpu <rounds scale>    every row
// bench spawn command ...     CPU time of one run of a command, in nanoseconds

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kSmall = 4096, kRange = 64 << 10, kLarge = 1 << 20 };

static int heap_fd;
static int buffer_fd;
static unsigned char* buffer_bytes;
static unsigned char* memory;
static uint64_t sink;

static void die(const char* what) {
  perror(what);
  exit(1);
}

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

static void map_unmap(void) {
  void* address = mmap(NULL, kRange, PROT_READ | PROT_WRITE, MAP_SHARED, buffer_fd, 0);
  if (address == MAP_FAILED) die("mmap");
  munmap(address, kRange);
}

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

static void read_small(void) { read_bytes(kSmall); }
static void read_large(void) { read_bytes(kLarge); }
static void write_small(void) { write_bytes(kSmall); }
static void write_large(void) { write_bytes(kLarge); }

static void is_ready(void) {
  struct pollfd request = {.fd = buffer_fd, .events = POLLOUT};
  if (poll(&request, 1, 0) != 1) die("poll");
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

// One message with one dma-buf: sent, received, and the received descriptor closed.
static void message(void) {
  char data[16] = "frame";
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
  } control;
  struct iovec vector = {.iov_base = data, .iov_len = sizeof data};
  struct msghdr sent = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  control.header =
      (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
  memcpy(CMSG_DATA(&control.header), &buffer_fd, sizeof buffer_fd);
  if (sendmsg(ends[0], &sent, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof data) die("sendmsg");

  struct msghdr received = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (recvmsg(ends[1], &received, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof data) die("recvmsg");
  if (received.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) die("recvmsg");
  int fd;
  memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
  close(fd);
}

static double cpu_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void measure(const char* name, void (*work)(void), int rounds) {
  for (int i = 0; i < rounds / 10 + 1; i++) work();
  const double start = cpu_time();
  for (int i = 0; i < rounds; i++) work();
  printf("%s\t%.1f\n", name, (cpu_time() - start) / rounds);
}

static int spawn(char** command) {
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    execvp(command[0], command);
    die(command[0]);
  }
  int status;
  struct rusage usage;
  if (wait4(child, &status, 0, &usage) < 0) die("wait4");
  printf("spawn\t%.0f\n", (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9 +
                              (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char** argv) {
  if (argc > 2 && strcmp(argv[1], "spawn") == 0) return spawn(argv + 2);

  heap_fd = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
  if (heap_fd < 0) die("/dev/dma_heap/system");
  buffer_fd = allocate(kLarge);
  if (xioctl(buffer_fd, DMA_BUF_SET_NAME_B, "bench") < 0) die("DMA_BUF_SET_NAME");
  buffer_bytes = mmap(NULL, kLarge, PROT_READ | PROT_WRITE, MAP_SHARED, buffer_fd, 0);
  memory = malloc(kLarge);
  if (buffer_bytes == MAP_FAILED || memory == NULL) die("memory");
  memset(memory, 1, kLarge);

  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) die("socketpair");
  struct dma_buf_export_sync_file export = {.flags = DMA_BUF_SYNC_RW, .fd = -1};
  if (xioctl(buffer_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export) < 0) die("DMA_BUF_IOCTL_EXPORT_SYNC_FILE");
  sync_file_fd = export.fd;

  measure("sync", sync_pair, 20000);
  measure("allocate4k", allocate_small, 5000);
  measure("allocate1m", allocate_large, 100);
  measure("info", info, 3000);
  measure("isReady", is_ready, 20000);
  measure("syncFileInfo", sync_file_information, 5000);
  measure("message", message, 5000);
  measure("map64k", map_unmap, 3000);
  measure("read4k", read_small, 5000);
  measure("read1m", read_large, 50);
  measure("write4k", write_small, 5000);
  measure("write1m", write_large, 50);
  return sink == 0;
}
