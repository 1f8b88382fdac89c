// What the C programs at the other end of a channel share. They know nothing of the package: a channel is a Unix
// SOCK_SEQPACKET socket.

#pragma once

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST_FDS 253
#define DMA_BUF_MAGIC 0x444d4142

// One answer on standard output.
__attribute__((format(printf, 1, 2))) static void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static void fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static int check(int result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

// A whole message; blocks. -1 and errno.
static __attribute__((unused)) int try_send(int channel, const void* data, size_t length, const int* fds,
                                            size_t count, int flags) {
  union {
    char bytes[CMSG_SPACE(sizeof(int) * MOST_FDS)];
    struct cmsghdr header;
  } control;
  struct iovec piece = {(void*)data, length};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  if (count > 0) {
    control.header = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  }
  return sendmsg(channel, &message, MSG_NOSIGNAL | flags) < 0 ? -1 : 0;
}

static __attribute__((unused)) void send_message(int channel, const void* data, size_t length, const int* fds,
                                                 size_t count) {
  check(try_send(channel, data, length, fds, count, 0), "sendmsg");
}

static __attribute__((unused)) void send_text(int channel, const char* text) {
  send_message(channel, text, strlen(text), NULL, 0);
}

// The next message; blocks. -1 at the end or, with errno, after an error.
static __attribute__((unused)) ssize_t try_receive(int channel, void* data, size_t capacity, int* fds,
                                                   size_t* count, int flags) {
  union {
    char bytes[CMSG_SPACE(sizeof(int) * MOST_FDS)];
    struct cmsghdr header;
  } control;
  struct iovec piece = {data, capacity};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  errno = 0;
  const ssize_t length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC | flags);
  *count = 0;
  if (length < 0) return -1;
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
    *count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), *count * sizeof(int));
  }
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
    errno = EMSGSIZE;
    return -1;
  }
  return length == 0 && *count == 0 ? -1 : length;
}

static __attribute__((unused)) void close_all(const int* fds, size_t count) {
  for (size_t index = 0; index < count; index++) close(fds[index]);
}

static struct sockaddr_un address_of(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

static __attribute__((unused)) int try_connect(const char* path) {
  const int channel = check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket");
  const struct sockaddr_un address = address_of(path);
  if (connect(channel, (const struct sockaddr*)&address, sizeof address) == 0) return channel;
  close(channel);
  return -1;
}

static __attribute__((unused)) int listen_at(const char* path) {
  const int listener = check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket");
  const struct sockaddr_un address = address_of(path);
  check(bind(listener, (const struct sockaddr*)&address, sizeof address), "bind");
  check(listen(listener, 5), "listen");
  return listener;
}

// A new buffer of the system heap.
static __attribute__((unused)) int allocate(size_t size) {
  const int heap = check(open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC), "/dev/dma_heap/system");
  struct dma_heap_allocation_data request = {.len = size, .fd_flags = O_RDWR | O_CLOEXEC};
  check(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &request), "DMA_HEAP_IOCTL_ALLOC");
  close(heap);
  return (int)request.fd;
}

static __attribute__((unused)) uint32_t next_random(uint32_t* state) {
  uint32_t x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}
