// A program at the other end of channels, as a camera daemon in C might be. It serves the inherited socket whose number
// it was given, and what its standard input asks for: `connect <path>` and `listen <path>`, one line each. It blocks
// wherever it waits. A message that begins with "!" is a request, any other is sent back.

#include "channel.h"

#define CAPACITY (8 << 20)

static char data[CAPACITY];
static int fds[MOST_FDS];

static size_t size_of(int buffer) { return (size_t)check((int)lseek(buffer, 0, SEEK_END), "lseek"); }

static unsigned long inode_of(int fd) {
  struct stat status;
  check(fstat(fd, &status), "fstat");
  return status.st_ino;
}

static void synchronise(int buffer, uint64_t flags) {
  struct dma_buf_sync sync = {flags};
  check(ioctl(buffer, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_IOCTL_SYNC");
}

static uint8_t* map(int buffer, size_t size) {
  uint8_t* bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, buffer, 0);
  if (bytes == MAP_FAILED) fail("mmap");
  return bytes;
}

// Whether every byte i is i * factor + offset.
static int has_pattern(int buffer, unsigned factor, unsigned offset) {
  const size_t size = size_of(buffer);
  uint8_t* bytes = map(buffer, size);
  int same = 1;
  synchronise(buffer, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
  for (size_t index = 0; index < size; index++) same &= bytes[index] == (uint8_t)(index * factor + offset);
  synchronise(buffer, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
  munmap(bytes, size);
  return same;
}

static void write_pattern(int buffer, unsigned factor, unsigned offset) {
  const size_t size = size_of(buffer);
  uint8_t* bytes = map(buffer, size);
  synchronise(buffer, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
  for (size_t index = 0; index < size; index++) bytes[index] = (uint8_t)(index * factor + offset);
  synchronise(buffer, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
  munmap(bytes, size);
}

static void exchange(int channel, size_t count) {
  struct statfs status;
  if (count != 1) return send_text(channel, "not one descriptor");
  check(fstatfs(fds[0], &status), "fstatfs");
  if (status.f_type != DMA_BUF_MAGIC) return send_text(channel, "not a dma-buf");
  if (!has_pattern(fds[0], 7, 1)) return send_text(channel, "not the pattern");
  write_pattern(fds[0], 13, 5);

  const int own = allocate(8192);
  check(ioctl(own, DMA_BUF_SET_NAME_B, (uint64_t)(uintptr_t) "of the peer"), "DMA_BUF_SET_NAME");
  write_pattern(own, 31, 2);
  int ends[2];
  check(pipe2(ends, O_CLOEXEC), "pipe2");
  check((int)write(ends[1], "through the pipe", 16), "write");
  close(ends[1]);

  char answer[100];
  snprintf(answer, sizeof answer, "inodes %lu %lu", inode_of(fds[0]), inode_of(own));
  const int answers[] = {fds[0], own, ends[0]};
  send_message(channel, answer, strlen(answer), answers, 3);
  close(own);
  close(ends[0]);
}

static void send_nulls(int channel, long count) {
  int nulls[MOST_FDS];
  for (long index = 0; index < count; index++) nulls[index] = check(open("/dev/null", O_RDWR), "/dev/null");
  send_message(channel, "", 0, nulls, (size_t)count);
  close_all(nulls, (size_t)count);
}

static void send_sizes(int channel, char* sizes) {
  static char filler[CAPACITY];
  for (char* size = strtok(sizes, " "); size != NULL; size = strtok(NULL, " ")) {
    const long length = atol(size);
    memset(filler, (int)(length % 251), (size_t)length);
    send_message(channel, filler, (size_t)length, NULL, 0);
  }
}

static void answer(int channel, size_t length, size_t count) {
  char text[100];
  data[length] = '\0';
  if (data[0] != '!') {
    send_message(channel, data, length, fds, count);
  } else if (strcmp(data, "!exchange") == 0) {
    exchange(channel, count);
  } else if (strcmp(data, "!flags") == 0) {
    snprintf(text, sizeof text, "flags %o", check(fcntl(channel, F_GETFL), "F_GETFL"));
    send_text(channel, text);
  } else if (strncmp(data, "!fds ", 5) == 0) {
    send_nulls(channel, atol(data + 5));
  } else if (strncmp(data, "!sizes ", 7) == 0) {
    send_sizes(channel, data + 7);
  } else if (strncmp(data, "!room ", 6) == 0) {
    const int half = atoi(data + 6) / 2 + 32;
    check(setsockopt(channel, SOL_SOCKET, SO_SNDBUFFORCE, &half, sizeof half), "SO_SNDBUFFORCE");
    send_text(channel, "room");
  } else {
    send_text(channel, "what?");
  }
}

static void serve(int channel) {
  for (;;) {
    size_t count;
    const ssize_t length = try_receive(channel, data, sizeof data - 1, fds, &count, 0);
    if (length < 0 && errno != 0) fail("recvmsg");
    if (length < 0) exit(0);
    answer(channel, (size_t)length, count);
    close_all(fds, count);
  }
}

// Every connection has a process of its own.
static void start(int channel) {
  const int child = check(fork(), "fork");
  if (child == 0) serve(channel);
  close(channel);
}

static int accept_one(const char* path) {
  const int listener = listen_at(path);
  say("listening");
  const int channel = check(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept4");
  close(listener);
  unlink(path);
  return channel;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGCHLD, SIG_IGN);
  start(atoi(argv[1]));
  char way[20];
  char path[200];
  while (scanf("%19s %199s", way, path) == 2) {
    start(strcmp(way, "connect") == 0 ? check(try_connect(path), "connect") : accept_one(path));
  }
}
