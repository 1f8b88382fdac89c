// A peer whose descriptors keep whoever closes them waiting: TCP sockets with unread data and SO_LINGER. Its channels are
// the descriptors from 3 on; argv: how many. Commands on standard input, a line each: `send <bytes>` sends a message of so
// many bytes over every channel, with such a socket that nobody else holds; `connect <path>` connects to a server and sends
// it one.

#include "channel.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static int lingering(void) {
  const struct linger patient = {.l_onoff = 1, .l_linger = 60};
  const int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  check(bind(listener, (const struct sockaddr*)&address, sizeof address), "bind");
  check(listen(listener, 1), "listen");
  check(getsockname(listener, (struct sockaddr*)&address, &length), "getsockname");
  const int fd = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
  check(connect(fd, (const struct sockaddr*)&address, sizeof address), "connect");
  static const char bytes[65536];
  while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
  check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &patient, sizeof patient), "SO_LINGER");
  return fd;  // the listener stays open: nobody accepts
}

static void send_one(int channel, size_t bytes) {
  static char data[20000];
  const int fd = lingering();
  send_message(channel, data, bytes, &fd, 1);
  close(fd);
}

int main(int argc, char** argv) {
  const int count = argc > 1 ? atoi(argv[1]) : 0;
  char line[400];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "send ", 5) == 0) {
      for (int channel = 3; channel < 3 + count; channel++) send_one(channel, (size_t)atol(line + 5));
    } else if (strncmp(line, "connect ", 8) == 0) {
      send_one(check(try_connect(line + 8), "connect"), 1);
    }
    say("ok");
  }
}
