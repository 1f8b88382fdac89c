// Holds dma-bufs in the ways that Node cannot. Prints a line when it does so, and ends when its stdin does.
//
// holder map SIZE [UID]   a mapping of all but the last page of a buffer, without a descriptor; prints its inode
// holder hold COUNT       buffers, as descriptors
// holder churn COUNT      starts as many processes, eight at a time, that hold a buffer of their parent's and one of
//                         their own and end; prints "started", then "done"
// holder leaderless       two buffers, one as a descriptor and one mapped, by a thread that has outlived the first one
// holder dup COUNT        one buffer by so many descriptors
// holder lock COUNT       one buffer, of which so many ranges are locked
// holder strings          buffers with the names of the lines of its stdin, which are hexadecimal; prints their inodes

#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#ifndef DMA_BUF_SET_NAME_B
#define DMA_BUF_SET_NAME_B _IOW('b', 1, uint64_t)
#endif

static void die(const char* what) {
  perror(what);
  exit(1);
}

static int allocate(size_t size) {
  static int heap = -1;
  if (heap < 0) heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
  if (heap < 0) die("/dev/dma_heap/system");
  struct dma_heap_allocation_data data = {.len = size, .fd_flags = O_RDWR | O_CLOEXEC};
  if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0) die("DMA_HEAP_IOCTL_ALLOC");
  return (int)data.fd;
}

static uint64_t inode_of(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) die("fstat");
  return status.st_ino;
}

static void say(const char* text) {
  puts(text);
  fflush(stdout);
}

static void wait_for_end(void) {
  char bytes[256];
  while (read(0, bytes, sizeof bytes) > 0) continue;
}

static void map_only(size_t size, uid_t user) {
  const int fd = allocate(size);
  if (mmap(NULL, size - 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED) die("mmap");
  const uint64_t inode = inode_of(fd);
  close(fd);
  if (user != 0) {
    if (setgid(user) < 0 || setuid(user) < 0) die("setuid");
    prctl(PR_SET_DUMPABLE, 1);
  }
  printf("%" PRIu64 "\n", inode);
  fflush(stdout);
}

static void churn(int count) {
  allocate(4096);
  say("started");
  int running = 0;
  for (int index = 0; index < count; index++) {
    if (running == 8) {
      wait(NULL);
      running--;
    }
    const pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int fd = allocate(4096);
      if (index % 2 == 0) mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
      if (index % 4 == 0) close(fd);
      _exit(0);
    }
    running++;
  }
  while (running-- > 0) wait(NULL);
  say("done");
}

static void* outlive(void* first) {
  pthread_join(*(pthread_t*)first, NULL);
  say("holds");
  wait_for_end();
  exit(0);
}

static void leave_to_a_thread(void) {
  static pthread_t first;
  pthread_t thread;
  allocate(4096);
  const int fd = allocate(8192);
  if (mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) die("mmap");
  close(fd);
  first = pthread_self();
  pthread_create(&thread, NULL, outlive, &first);
  pthread_exit(NULL);
}

static void dup_often(long count) {
  const struct rlimit limit = {count + 100, count + 100};
  if (setrlimit(RLIMIT_NOFILE, &limit) < 0) die("setrlimit");
  const int fd = allocate(4096);
  for (long copies = 1; copies < count; copies++) {
    if (fcntl(fd, F_DUPFD_CLOEXEC, 0) < 0) die("fcntl");
  }
  say("holds");
}

static void lock_often(long count) {
  const int fd = allocate(4096);
  for (long index = 0; index < count; index++) {
    const struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 2 * index, .l_len = 1};
    if (fcntl(fd, F_SETLK, &range) < 0) die("F_SETLK");
  }
  printf("%" PRIu64 " %d\n", inode_of(fd), fd);
  fflush(stdout);
}

static void hold_names(void) {
  char line[256];
  while (fgets(line, sizeof line, stdin) && line[0] != '.') {
    char name[128] = {0};
    size_t length = 0;
    for (const char* at = line; at[0] > ' ' && at[1] > ' '; at += 2) {
      unsigned byte;
      sscanf(at, "%2x", &byte);
      name[length++] = (char)byte;
    }
    const int fd = allocate(4096);
    if (ioctl(fd, DMA_BUF_SET_NAME_B, (uint64_t)(uintptr_t)name) < 0) die("DMA_BUF_SET_NAME");
    printf("%" PRIu64 " ", inode_of(fd));
  }
  say("");
}

int main(int count, char** arguments) {
  const char* mode = count > 1 ? arguments[1] : "";
  const long number = count > 2 ? atol(arguments[2]) : 0;
  if (strcmp(mode, "map") == 0) {
    map_only((size_t)number, count > 3 ? (uid_t)atol(arguments[3]) : 0);
  } else if (strcmp(mode, "hold") == 0) {
    for (long index = 0; index < number; index++) allocate(4096);
    say("holds");
  } else if (strcmp(mode, "churn") == 0) {
    churn((int)number);
    return 0;
  } else if (strcmp(mode, "leaderless") == 0) {
    leave_to_a_thread();
  } else if (strcmp(mode, "dup") == 0) {
    dup_often(number);
  } else if (strcmp(mode, "lock") == 0) {
    lock_often(number);
  } else if (strcmp(mode, "strings") == 0) {
    hold_names();
  } else {
    fprintf(stderr, "holder: no such mode\n");
    return 2;
  }
  wait_for_end();
  return 0;
}
