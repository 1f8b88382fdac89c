// A hostile peer. Its channel is descriptor 3. Its standard input has one command on each line; it answers each with
// a line, which is `ok` if there is nothing to report.

#include "channel.h"
#include "file-kinds.h"

#include <sys/resource.h>

#ifndef SCM_SECURITY
#define SCM_SECURITY 3
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

#define CAPACITY (16 << 20)

static char data[CAPACITY];
static int fds[MOST_FDS];

// `kind <name>`: a message with such a descriptor and what it refers to, or without any and the reason.
static void send_kind(const char* name) {
  for (size_t index = 0; index < KINDS; index++) {
    if (strcmp(kinds[index].name, name) != 0) continue;
    errno = 0;
    const int fd = kinds[index].open();
    if (fd < 0) {
      send_text(channel, strerror(errno));
    } else {
      char link[64];
      char target[300] = "";
      snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
      const ssize_t length = readlink(link, target, sizeof target);
      // There are kinds that the kernel does not pass.
      if (try_send(channel, target, length < 0 ? 0 : (size_t)length, &fd, 1, 0) < 0) {
        send_text(channel, strerror(errno));
      }
      close(fd);
    }
    return say("ok");
  }
  say("what kind?");
}

// ---------- garbage

// The receiver computes the same, to see that it gets what was sent.
static void send_garbage(uint32_t seed, long count) {
  uint32_t state = seed;
  const int null = null_device();
  const int memory = allocate(4096);
  for (long number = 0; number < count; number++) {
    const uint32_t shape = next_random(&state);
    const size_t length = shape % 16 == 0 ? shape % 60000 : shape % 300;
    const size_t fd_count = shape % 97 == 0 ? MOST_FDS : (shape >> 16) % 5;
    for (size_t index = 0; index < length; index++) data[index] = (char)next_random(&state);
    for (size_t index = 0; index < fd_count; index++) fds[index] = next_random(&state) & 1 ? memory : null;
    send_message(channel, data, length, fds, fd_count);
  }
  close(null);
  close(memory);
}

// Numbered messages of 1 to 8 descriptors, until somebody ends this process.
static void flood(uint32_t seed) {
  uint32_t state = seed;
  const int kinds_of_flood[] = {allocate(4096), null_device()};
  for (uint32_t number = 0;; number++) {
    uint32_t bytes[64];
    const size_t count = next_random(&state) % 8;
    for (size_t index = 0; index < count; index++) fds[index] = kinds_of_flood[index % 2];
    for (size_t index = 0; index < 64; index++) bytes[index] = number;
    if (try_send(channel, bytes, sizeof bytes, fds, count, 0) < 0) exit(errno == EPIPE ? 0 : 1);
  }
}

// ---------- control messages

// Several control messages in one message: `rights` times SCM_RIGHTS with `each` descriptors, credentials, and one that
// belongs to another protocol.
static void send_controls(int rights, int each, int credentials) {
  static char control[8192];
  memset(control, 0, sizeof control);
  struct iovec piece = {"controls", 8};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control};
  struct cmsghdr* header = (struct cmsghdr*)control;
  size_t used = 0;
  const int null = null_device();
  for (int index = 0; index < rights; index++) {
    *header = (struct cmsghdr){CMSG_LEN((size_t)each * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    for (int number = 0; number < each; number++) ((int*)CMSG_DATA(header))[number] = null;
    used += CMSG_SPACE((size_t)each * sizeof(int));
    header = (struct cmsghdr*)(control + used);
  }
  if (credentials) {
    const struct ucred own = {getpid(), getuid(), getgid()};
    *header = (struct cmsghdr){CMSG_LEN(sizeof own), SOL_SOCKET, SCM_CREDENTIALS};
    memcpy(CMSG_DATA(header), &own, sizeof own);
    used += CMSG_SPACE(sizeof own);
    header = (struct cmsghdr*)(control + used);
    *header = (struct cmsghdr){CMSG_LEN(100), IPPROTO_IP, 1};
    used += CMSG_SPACE(100);
  }
  message.msg_controllen = used;
  if (sendmsg(channel, &message, MSG_NOSIGNAL) < 0) {
    say("%s", strerror(errno));
  } else {
    say("ok");
  }
  close(null);
}

// Sends the end of a new connection that has everything switched on that adds to messages; the other end is the channel
// from then on.
static void prepare_socket(void) {
  int ends[2];
  check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "socketpair");
  const int on = 1;
  const int options[] = {SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD, SO_TIMESTAMPNS, SO_RXQ_OVFL, SO_PEEK_OFF};
  for (size_t index = 0; index < sizeof options / sizeof options[0]; index++) {
    setsockopt(ends[1], SOL_SOCKET, options[index], &on, sizeof on);
  }
  check(fcntl(ends[1], F_SETFL, O_NONBLOCK | O_ASYNC), "F_SETFL");
  send_message(channel, "yours", 5, &ends[1], 1);
  close(ends[1]);
  dup2(ends[0], channel);
  close(ends[0]);
}

// ---------- sockets in sockets

// A socket whose queue holds a socket whose queue ... holds a dma-buf, `depth` times; and the dma-buf's inode.
static void send_nested(int depth) {
  int inner = allocate(4096);
  struct stat status;
  char text[32];
  check(fstat(inner, &status), "fstat");
  snprintf(text, sizeof text, "%lu", status.st_ino);
  for (int level = 0; level < depth; level++) {
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "socketpair");
    if (try_send(ends[0], "inner", 5, &inner, 1, 0) < 0) return say("%d: %s", level, strerror(errno));
    close(ends[0]);
    close(inner);
    inner = ends[1];
  }
  if (try_send(channel, text, strlen(text), &inner, 1, 0) < 0) return say("%d: %s", depth, strerror(errno));
  close(inner);
  say("ok");
}

// ---------- connections

static void raise_limit(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max = 20000;
  if (setrlimit(RLIMIT_NOFILE, &limit) < 0) fail("setrlimit");
}

// Connects and goes at once, `count` times; every other time it sends something first.
static void connect_and_vanish(const char* path, int count) {
  for (int number = 0; number < count; number++) {
    const int connection = check(try_connect(path), "connect");
    if (number % 2 == 1) {
      const int null = null_device();
      send_message(connection, "farewell", 8, &null, 1);
      close(null);
    }
    close(connection);
  }
}

// Connects as often, and stays. Says how many were taken before the queue was full.
static void connect_many(const char* path, int count) {
  raise_limit();
  const struct sockaddr_un address = address_of(path);
  int connected = 0;
  for (int number = 0; number < count; number++) {
    const int connection = check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0), "socket");
    if (connect(connection, (const struct sockaddr*)&address, sizeof address) == 0) {
      connected++;
    } else {
      close(connection);
    }
  }
  say("%d", connected);
}

// ---------- names

static const char* const names[] = {
    "a\nb",
    "evil\nsize:\t1",
    "evil\nexp_name:\tudmabuf",
    "\nname:\tother",
    "\nino:\t4711",
    "\xff\xfe\x80",
    "\xc3",
    "\x1b[2J\x1b]0;owned\x07",
    "\xe2\x80\xaetxt.exe",
    "../../etc/passwd",
    "__proto__",
    "%s%n%p",
    "0123456789012345678901234567890",
    " ",
};

static void send_named(void) {
  for (size_t index = 0; index < sizeof names / sizeof names[0]; index++) {
    const int named = allocate(4096);
    check(ioctl(named, DMA_BUF_SET_NAME_B, (uint64_t)(uintptr_t)names[index]), "DMA_BUF_SET_NAME");
    send_message(channel, names[index], strlen(names[index]), &named, 1);
    close(named);
  }
}

// ---------- commands

static size_t drain(long most, int flags) {
  size_t messages = 0;
  while (most-- > 0) {
    size_t count;
    const ssize_t length = try_receive(channel, data, sizeof data, fds, &count, flags);
    if (length < 0) break;
    close_all(fds, count);
    messages++;
  }
  return messages;
}

static void send_some(size_t length, size_t count) {
  const int null = null_device();
  const int memory = allocate(4096);
  for (size_t index = 0; index < count; index++) fds[index] = index % 2 == 0 ? memory : null;
  const int force = (int)length;
  if (length > 200000) setsockopt(channel, SOL_SOCKET, SO_SNDBUFFORCE, &force, sizeof force);
  memset(data, 'x', length);
  if (try_send(channel, data, length, fds, count, 0) < 0) {
    say("%s", strerror(errno));
  } else {
    say("ok");
  }
  close(null);
  close(memory);
}

// Of the descriptor that the next message brings.
static void ask_file_system(void) {
  struct statfs status;
  size_t count;
  check((int)try_receive(channel, data, sizeof data, fds, &count, 0), "recvmsg");
  say("asking");
  fstatfs(fds[0], &status);
  say("answered");
}

// `urgent <bytes> <descriptors>`: on a stream, sends the last of the bytes out of band, with the descriptors.
static void send_urgent(size_t length, size_t count) {
  const int memory = allocate(4096);
  for (size_t index = 0; index < count; index++) fds[index] = memory;
  memset(data, 'u', length);
  if (length > 1) send_message(channel, data, length - 1, NULL, 0);
  say("%s", try_send(channel, data, 1, fds, count, MSG_OOB) < 0 ? strerror(errno) : "ok");
  close(memory);
}

static void obey(char* line) {
  char word[200] = "";
  long first = 0;
  long second = 0;
  long third = 0;
  if (strncmp(line, "kind ", 5) == 0) return send_kind(line + 5);
  if (sscanf(line, "send %ld %ld", &first, &second) >= 1) return send_some((size_t)first, (size_t)second);
  if (sscanf(line, "urgent %ld %ld", &first, &second) == 2) return send_urgent((size_t)first, (size_t)second);
  if (sscanf(line, "nested %ld", &first) == 1) return send_nested((int)first);
  if (sscanf(line, "connect %199s %ld", word, &first) == 2) return connect_many(word, (int)first);
  if (sscanf(line, "controls %ld %ld %ld", &first, &second, &third) == 3) {
    return send_controls((int)first, (int)second, (int)third);
  }
  if (sscanf(line, "read %ld", &first) == 1) return say("%zu", drain(first, 0));
  if (strcmp(line, "drain") == 0) return say("%zu", drain(INT32_MAX, MSG_DONTWAIT));
  if (strcmp(line, "fstatfs") == 0) return ask_file_system();

  if (sscanf(line, "say %199[^\n]", word) == 1) {
    send_text(channel, word);
  } else if (sscanf(line, "empty %ld", &first) == 1) {
    while (first-- > 0) send_message(channel, "", 0, NULL, 0);
  } else if (sscanf(line, "shutdown %ld", &first) == 1) {
    check(shutdown(channel, (int)first), "shutdown");
  } else if (strcmp(line, "close") == 0) {
    close(channel);
  } else if (sscanf(line, "garbage %ld %ld", &first, &second) == 2) {
    send_garbage((uint32_t)first, second);
  } else if (sscanf(line, "flood %ld", &first) == 1) {
    say("ok");
    flood((uint32_t)first);
  } else if (strcmp(line, "prepare") == 0) {
    prepare_socket();
  } else if (sscanf(line, "vanish %199s %ld", word, &first) == 2) {
    connect_and_vanish(word, (int)first);
  } else if (strcmp(line, "names") == 0) {
    send_named();
  } else {
    return say("what?");
  }
  say("ok");
}

int main(void) {
  char line[400];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    obey(line);
  }
}
