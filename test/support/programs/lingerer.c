// A peer whose descriptors block when they are closed: TCP sockets with unread data and SO_LINGER. Its channels are the
// descriptors from 3 on; argv: how many. Commands on standard input, a line each: `send <bytes>` sends a message of so
// many bytes over every channel, with such a socket that nobody else holds; `flood <bytes> <messages> <descriptors>
// <what>` so many messages over every channel, each with so many such sockets (`socket`), descriptors of /dev/null
// (`null`), or files of as many devices behind one such socket (`devices`; as root); `connect <path>` connects to a
// server and sends it one.

#include "channel.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

static int listener = -1;
static struct sockaddr_in address = {.sin_family = AF_INET};

// As small as sockets can be: there may be thousands.
static void make_small(int fd) {
  const int least = 1;
  check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), "SO_SNDBUF");
  check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), "SO_RCVBUF");
}

static void begin_listening(void) {
  socklen_t length = sizeof address;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
  make_small(listener);
  check(bind(listener, (const struct sockaddr*)&address, sizeof address), "bind");
  check(listen(listener, 16), "listen");
  check(getsockname(listener, (struct sockaddr*)&address, &length), "getsockname");
}

static int lingering(void) {
  const struct linger patient = {.l_onoff = 1, .l_linger = 60};
  if (listener < 0) begin_listening();
  const int fd = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
  make_small(fd);
  check(connect(fd, (const struct sockaddr*)&address, sizeof address), "connect");
  check(accept(listener, NULL, NULL), "accept");  // nobody reads from it
  static const char bytes[65536];
  while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
  check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &patient, sizeof patient), "SO_LINGER");
  return fd;
}

static void send_one(int channel, size_t bytes) {
  static char data[20000];
  const int fd = lingering();
  send_message(channel, data, bytes, &fd, 1);
  close(fd);
}

// A file system that holds nothing else: one mounted upon the other, where nobody else sees them.
static int on_its_own_device(void) {
  static int is_apart;
  if (is_apart++ == 0) {
    check(unshare(CLONE_NEWNS), "unshare");
    check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount");
  }
  check(mount("none", "/tmp", "tmpfs", 0, NULL), "mount");
  return check(open("/tmp/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open");
}

static int one_of_many_devices(int index) {
  static int files[MOST_FDS];
  if (index == 0) return lingering();
  if (files[index] == 0) files[index] = on_its_own_device();
  return check(dup(files[index]), "dup");
}

static int open_for_flood(const char* what, int index) {
  if (strcmp(what, "null") == 0) return check(open("/dev/null", O_RDWR), "/dev/null");
  return strcmp(what, "devices") == 0 ? one_of_many_devices(index) : lingering();
}

static void flood(int channel, size_t bytes, int messages, int descriptors, const char* what) {
  static char data[20000];
  int fds[MOST_FDS];
  while (messages-- > 0) {
    for (int index = 0; index < descriptors; index++) {
      fds[index] = open_for_flood(what, index);
    }
    send_message(channel, data, bytes, fds, (size_t)descriptors);
    close_all(fds, (size_t)descriptors);
  }
}

int main(int argc, char** argv) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const int count = argc > 1 ? atoi(argv[1]) : 0;
  char line[400];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "send ", 5) == 0) {
      for (int channel = 3; channel < 3 + count; channel++) send_one(channel, (size_t)atol(line + 5));
    } else if (strncmp(line, "flood ", 6) == 0) {
      size_t bytes = 0;
      int messages = 0;
      int descriptors = 0;
      char what[16] = "";
      sscanf(line + 6, "%zu %d %d %15s", &bytes, &messages, &descriptors, what);
      for (int channel = 3; channel < 3 + count; channel++) flood(channel, bytes, messages, descriptors, what);
    } else if (strncmp(line, "connect ", 8) == 0) {
      send_one(check(try_connect(line + 8), "connect"), 1);
    }
    say("ok");
  }
}
