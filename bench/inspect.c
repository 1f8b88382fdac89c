// The C side of the inspection's benchmark.
//
// inspect hold PROCESSES BUFFERS IDLE FDS   starts processes that hold buffers, and idle ones with other
//                                           descriptors; prints "ready" and keeps them until its stdin ends
// inspect scan ROUNDS BATCHES               looks through /proc for dma-bufs as a program without this
//                                           library would, as measure.h says

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-heap.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "measure.h"

// ---- hold

static void hold_buffers(int count) {
  const int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
  if (heap < 0) die("/dev/dma_heap/system");
  for (int index = 0; index < count; index++) {
    struct dma_heap_allocation_data data = {.len = 4096, .fd_flags = O_RDWR | O_CLOEXEC};
    if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0) die("DMA_HEAP_IOCTL_ALLOC");
  }
}

// Half of them as a service has them, sockets and pipes and events, half files.
static void hold_descriptors(int count) {
  for (int index = 0; index < count; index++) {
    const int fd = index % 2 == 0 ? eventfd(0, 0) : open("/dev/null", O_RDONLY);
    if (fd < 0) die("a descriptor");
  }
}

static void hold(int processes, int buffers, int idle, int fds) {
  for (int index = 0; index < processes + idle; index++) {
    int ready[2];
    if (pipe(ready) < 0) die("pipe");
    const pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (index < processes) {
        hold_buffers(buffers);
      } else {
        hold_descriptors(fds);
      }
      close(ready[0]);
      close(ready[1]);
      for (;;) pause();
    }
    close(ready[1]);
    char byte;
    if (read(ready[0], &byte, 1) != 0) die("read");
    close(ready[0]);
  }
  puts("ready");
  fflush(stdout);
  char byte;
  while (read(0, &byte, 1) > 0) continue;
}

// ---- scan

struct buffer {
  uint64_t inode, size, references;
  char exporter[64], name[32];
  int described;
};

struct holding {
  uint64_t inode;
  int pid, fds, mappings;
};

static struct buffer* buffers;
static size_t buffer_count, buffer_room;
static struct holding* holdings;
static size_t holding_count, holding_room;
static uint32_t* table;
static size_t table_size;
static dev_t device;
static char lines[65536];

static struct buffer* buffer_of(uint64_t inode) {
  if (buffer_count * 2 >= table_size) {
    table_size = table_size ? table_size * 2 : 1024;
    free(table);
    table = calloc(table_size, sizeof *table);
    for (size_t index = 0; index < buffer_count; index++) {
      size_t slot = buffers[index].inode * 0x9E3779B97F4A7C15u % table_size;
      while (table[slot]) slot = (slot + 1) % table_size;
      table[slot] = (uint32_t)index + 1;
    }
  }
  size_t slot = inode * 0x9E3779B97F4A7C15u % table_size;
  while (table[slot]) {
    if (buffers[table[slot] - 1].inode == inode) return &buffers[table[slot] - 1];
    slot = (slot + 1) % table_size;
  }
  if (buffer_count == buffer_room) {
    buffer_room = buffer_room ? buffer_room * 2 : 256;
    buffers = realloc(buffers, buffer_room * sizeof *buffers);
  }
  table[slot] = (uint32_t)buffer_count + 1;
  struct buffer* buffer = &buffers[buffer_count++];
  memset(buffer, 0, sizeof *buffer);
  buffer->inode = inode;
  return buffer;
}

static struct holding* holding_of(size_t first, uint64_t inode, int pid) {
  for (size_t index = first; index < holding_count; index++) {
    if (holdings[index].inode == inode) return &holdings[index];
  }
  if (holding_count == holding_room) {
    holding_room = holding_room ? holding_room * 2 : 256;
    holdings = realloc(holdings, holding_room * sizeof *holdings);
  }
  struct holding* holding = &holdings[holding_count++];
  *holding = (struct holding){inode, pid, 0, 0};
  return holding;
}

static void describe(struct buffer* buffer, int pid, const char* fd) {
  char path[320], text[1024];
  snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", pid, fd);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return;
  text[length] = '\0';
  const char* at = strstr(text, "count:\t");
  if (at) buffer->references = strtoull(at + 7, NULL, 10);
  at = strstr(text, "exp_name:\t");
  if (at) sscanf(at + 10, "%63[^\n]", buffer->exporter);
  at = strstr(text, "name:\t");
  at = at ? strstr(at + 6, "name:\t") : NULL;
  if (at) snprintf(buffer->name, sizeof buffer->name, "%s", at + 6);
  buffer->described = 1;
}

static void scan_descriptors(int pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  DIR* folder = opendir(path);
  if (!folder) return;
  const size_t first = holding_count;
  struct dirent* entry;
  while ((entry = readdir(folder))) {
    struct statx status;
    if (entry->d_name[0] == '.') continue;
    if (statx(dirfd(folder), entry->d_name, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO | STATX_SIZE,
              &status) < 0) {
      continue;
    }
    if ((status.stx_mode & S_IFMT) != 0) continue;
    const dev_t on = makedev(status.stx_dev_major, status.stx_dev_minor);
    if (device == 0) {
      struct statfs system;
      char link[384];
      snprintf(link, sizeof link, "%s/%s", path, entry->d_name);
      if (statfs(link, &system) == 0 && system.f_type == 0x444d4142) device = on;
    }
    if (on != device) continue;
    struct buffer* buffer = buffer_of(status.stx_ino);
    buffer->size = status.stx_size;
    // A process's descriptors of one buffer mostly follow each other: look at the last ones only.
    holding_of(holding_count > first + 4 ? holding_count - 4 : first, buffer->inode, pid)->fds++;
    if (!buffer->described) describe(buffer, pid, entry->d_name);
  }
  closedir(folder);
}

static void scan_mappings(int pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  const size_t first = holding_count;
  size_t kept = 0;
  ssize_t count;
  while ((count = read(file, lines + kept, sizeof lines - kept)) > 0) {
    char* line = lines;
    char* const end = lines + kept + count;
    char* newline;
    while ((newline = memchr(line, '\n', (size_t)(end - line)))) {
      *newline = '\0';
      unsigned major_number, minor_number;
      uint64_t inode;
      const char* at = strchr(line, ' ');
      at = at ? strchr(at + 6, ' ') : NULL;
      if (at && strncmp(at, " 00:", 4) == 0 && strncmp(at, " 00:00 ", 7) != 0 && strstr(at, "/dmabuf:") &&
          sscanf(at, " %x:%x %" SCNu64, &major_number, &minor_number, &inode) == 3 &&
          makedev(major_number, minor_number) == device) {
        holding_of(first, inode, pid)->mappings++;
      }
      line = newline + 1;
    }
    kept = (size_t)(end - line);
    memmove(lines, line, kept);
  }
  close(file);
}

static void scan_all(void) {
  buffer_count = holding_count = 0;
  if (table) memset(table, 0, table_size * sizeof *table);
  DIR* proc = opendir("/proc");
  if (!proc) die("/proc");
  struct dirent* entry;
  while ((entry = readdir(proc))) {
    const int pid = atoi(entry->d_name);
    if (pid <= 0) continue;
    scan_descriptors(pid);
    scan_mappings(pid);
  }
  closedir(proc);
}

// The same as the work of bench/works.ts, so that both see the same.
static void scan_crowd(void) {
  scan_all();
  if (buffer_count == 5000 && holding_count == 5000) return;
  fprintf(stderr, "saw %zu buffers held %zu times\n", buffer_count, holding_count);
  exit(1);
}

static const struct work works[] = {{"scan", scan_crowd}, {NULL, NULL}};

int main(int count, char** arguments) {
  if (count == 6 && strcmp(arguments[1], "hold") == 0) {
    hold(atoi(arguments[2]), atoi(arguments[3]), atoi(arguments[4]), atoi(arguments[5]));
    return 0;
  }
  if (count == 4) return measure(works, arguments + 1, NULL);
  fprintf(stderr, "usage: inspect hold PROCESSES BUFFERS IDLE FDS | inspect scan ROUNDS BATCHES\n");
  return 2;
}
