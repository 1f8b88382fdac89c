// A peer that means harm. Its channel is descriptor 3, and it does what its standard input says, a command a line, and
// answers every one with a line: `ok` where there is nothing to tell.

#include "channel.h"

#include <linux/bpf.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#ifndef SCM_SECURITY
#define SCM_SECURITY 3
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

#define CAPACITY (16 << 20)

static int channel = 3;
static char data[CAPACITY];
static int fds[MOST_FDS];

static int null_device(void) { return check(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null"); }

// ---------- every kind of file

static int open_temporary(const char* contents) {
  char path[] = "/tmp/dmabuf-test-XXXXXX";
  const int fd = mkstemp(path);
  if (fd >= 0 && write(fd, contents, strlen(contents)) < 0) return -1;
  unlink(path);
  return fd;
}

static int regular_file(void) { return open_temporary("size:\t8192\ncount:\t1\nexp_name:\tsystem\n"); }
static int directory(void) { return open("/tmp", O_RDONLY | O_DIRECTORY); }
static int path_of_file(void) { return open("/etc/passwd", O_PATH); }
static int path_of_link(void) { return open("/proc/self/exe", O_PATH | O_NOFOLLOW); }
static int path_of_socket(void) {
  struct sockaddr_un address = address_of("/tmp/dmabuf-test-path-socket");
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  unlink(address.sun_path);
  if (bind(listener, (const struct sockaddr*)&address, sizeof address) < 0) return -1;
  const int fd = open(address.sun_path, O_PATH);
  unlink(address.sun_path);
  close(listener);
  return fd;
}
static int pipe_end(int which, int close_other) {
  int ends[2];
  if (pipe(ends) < 0) return -1;
  if (close_other) close(ends[1 - which]);
  return ends[which];
}
static int pipe_reader(void) { return pipe_end(0, 0); }
static int pipe_writer(void) { return pipe_end(1, 0); }
static int closed_pipe_reader(void) { return pipe_end(0, 1); }
static int closed_pipe_writer(void) { return pipe_end(1, 1); }
static int fifo(void) {
  const char* path = "/tmp/dmabuf-test-fifo";
  unlink(path);
  if (mkfifo(path, 0600) < 0) return -1;
  const int fd = open(path, O_RDWR);
  unlink(path);
  return fd;
}
static int pty_master(void) { return posix_openpt(O_RDWR | O_NOCTTY); }
static int pty_slave(void) {
  int master, slave;
  return openpty(&master, &slave, NULL, NULL, NULL) < 0 ? -1 : slave;
}
static int console(void) { return open("/dev/tty1", O_RDWR | O_NOCTTY); }
static int serial(void) { return open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_NONBLOCK); }
static int eventfd_of(void) { return eventfd(7, 0); }
static int eventfd_semaphore(void) { return eventfd(7, EFD_SEMAPHORE); }
static int epoll(void) { return epoll_create1(0); }
static int epoll_of_channel(void) {
  const int fd = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
  return epoll_ctl(fd, EPOLL_CTL_ADD, channel, &event) < 0 ? -1 : fd;
}
static int nested_epoll(void) {
  int inner = epoll_of_channel();
  for (int depth = 0; depth < 3; depth++) {
    const int outer = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event) < 0) return -1;
    inner = outer;
  }
  return inner;
}
static int timer(void) { return timerfd_create(CLOCK_MONOTONIC, 0); }
static int signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  return signalfd(-1, &set, 0);
}
static int memfd(void) { return memfd_create("dmabuf:", MFD_ALLOW_SEALING); }
static int secret_memory(void) { return (int)syscall(SYS_memfd_secret, 0); }
static int inotify(void) { return inotify_init1(0); }
static int inotify_watching(void) {
  const int fd = inotify_init1(0);
  return inotify_add_watch(fd, "/tmp", IN_ALL_EVENTS) < 0 ? -1 : fd;
}
static int fanotify(void) { return fanotify_init(FAN_CLASS_NOTIF, O_RDONLY); }
static int stream_socket(void) {
  int ends[2];
  return socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 ? -1 : ends[0];
}
static int datagram_socket(void) {
  int ends[2];
  return socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0 ? -1 : ends[0];
}
static int packet_socket(void) {
  int ends[2];
  return socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0 ? -1 : ends[0];
}
static int bound_tcp(void) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  return bind(fd, (const struct sockaddr*)&address, sizeof address) < 0 || listen(fd, 1) < 0 ? -1 : fd;
}
static int udp_socket(void) { return socket(AF_INET, SOCK_DGRAM, 0); }
static int netlink_socket(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static int raw_socket(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static int zero(void) { return open("/dev/zero", O_RDWR); }
static int full(void) { return open("/dev/full", O_RDWR); }
static int random_device(void) { return open("/dev/urandom", O_RDONLY); }
static int kernel_log(void) { return open("/dev/kmsg", O_RDONLY); }
static int system_heap(void) { return open("/dev/dma_heap/system", O_RDWR); }
static int udmabuf_device(void) { return open("/dev/udmabuf", O_RDWR); }
static int drm_device(void) { return open("/dev/dri/card0", O_RDWR); }
static int drm_render_node(void) { return open("/dev/dri/renderD128", O_RDWR); }
static int fuse_device(void) { return open("/dev/fuse", O_RDWR); }
static int proc_status(void) { return open("/proc/self/status", O_RDONLY); }
static int proc_memory(void) { return open("/proc/self/mem", O_RDWR); }
static int proc_maps(void) { return open("/proc/self/maps", O_RDONLY); }
static int proc_fds(void) { return open("/proc/self/fd", O_RDONLY | O_DIRECTORY); }
static int proc_fdinfo(void) {
  const int buffer = allocate(4096);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", buffer);
  return open(path, O_RDONLY);
}
static int namespace(void) { return open("/proc/self/ns/mnt", O_RDONLY); }
static int sysfs_file(void) { return open("/sys/kernel/uevent_seqnum", O_RDONLY); }
static int debugfs_file(void) { return open("/sys/kernel/debug/dma_buf/bufinfo", O_RDONLY); }
static int cgroup_file(void) { return open("/sys/fs/cgroup/cgroup.procs", O_RDONLY); }
static int shared_memory(void) { return open("/dev/shm", O_RDWR | O_TMPFILE, 0600); }
static int pidfd(void) { return (int)syscall(SYS_pidfd_open, getpid(), 0); }
static int pidfd_of_dead(void) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  const int fd = (int)syscall(SYS_pidfd_open, child, 0);
  siginfo_t information;
  waitid(P_PID, (id_t)child, &information, WEXITED);
  return fd;
}
static int io_uring(void) {
  char parameters[120] = {0};
  return (int)syscall(SYS_io_uring_setup, 4, parameters);
}
static int user_faults(void) { return (int)syscall(SYS_userfaultfd, 0); }
static int user_faults_ready(void) {
  const int fd = (int)syscall(SYS_userfaultfd, 0);
  struct uffdio_api api = {.api = UFFD_API};
  return fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 ? -1 : fd;
}
static int bpf_map(void) {
  union bpf_attr request = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};
  return (int)syscall(SYS_bpf, BPF_MAP_CREATE, &request, sizeof request);
}
static int bpf_program(void) {
  const struct bpf_insn instructions[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
  union bpf_attr request = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
                            .insn_cnt = 2,
                            .insns = (uint64_t)(uintptr_t)instructions,
                            .license = (uint64_t)(uintptr_t) "GPL"};
  return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &request, sizeof request);
}
static int performance_event(void) {
  struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event};
  return (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, 0);
}
static int landlock(void) {
  struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE};
  return (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
}
static int mount_tree(void) { return (int)syscall(SYS_open_tree, AT_FDCWD, "/tmp", 0); }
static int file_system_context(void) { return (int)syscall(SYS_fsopen, "tmpfs", 0); }
static int detached_mount(void) {
  const int context = (int)syscall(SYS_fsopen, "tmpfs", 0);
  if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) return -1;
  return (int)syscall(SYS_fsmount, context, 0, 0);
}
static int message_queue(void) {
  const int fd = (int)syscall(SYS_mq_open, "dmabuf-test", O_RDWR | O_CREAT, 0600, NULL);
  syscall(SYS_mq_unlink, "dmabuf-test");
  return fd;
}
static int executable(void) { return open("/proc/self/exe", O_RDONLY); }
static int buffer_as_path(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", allocate(4096));
  return open(path, O_PATH);
}
static int sync_file(void) {
  struct dma_buf_export_sync_file request = {DMA_BUF_SYNC_WRITE, -1};
  return ioctl(allocate(4096), DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request) < 0 ? -1 : request.fd;
}
static int sync_file_as_path(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", sync_file());
  return open(path, O_PATH);
}
static int buffer(void) { return allocate(4096); }
static int read_only_buffer(void) {
  const int heap = open("/dev/dma_heap/system", O_RDONLY);
  struct dma_heap_allocation_data request = {.len = 4096, .fd_flags = O_RDONLY | O_CLOEXEC};
  return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &request) < 0 ? -1 : (int)request.fd;
}
static int own_end(void) { return dup(channel); }

static const struct {
  const char* name;
  int (*open)(void);
} kinds[] = {
    {"a regular file", regular_file},
    {"a directory", directory},
    {"the path of a file", path_of_file},
    {"the path of a symbolic link", path_of_link},
    {"the path of a socket", path_of_socket},
    {"the reading end of a pipe", pipe_reader},
    {"the writing end of a pipe", pipe_writer},
    {"a pipe that nobody writes", closed_pipe_reader},
    {"a pipe that nobody reads", closed_pipe_writer},
    {"a FIFO", fifo},
    {"a pty's master", pty_master},
    {"a pty's slave", pty_slave},
    {"a console", console},
    {"a serial line", serial},
    {"an eventfd", eventfd_of},
    {"an eventfd that is a semaphore", eventfd_semaphore},
    {"an epoll instance", epoll},
    {"an epoll instance that watches the channel", epoll_of_channel},
    {"epoll instances in one another", nested_epoll},
    {"a timerfd", timer},
    {"a signalfd", signals},
    {"a memfd that calls itself a dma-buf", memfd},
    {"secret memory", secret_memory},
    {"an inotify instance", inotify},
    {"an inotify instance with a watch", inotify_watching},
    {"a fanotify instance", fanotify},
    {"a Unix stream socket", stream_socket},
    {"a Unix datagram socket", datagram_socket},
    {"a Unix socket as the channel's", packet_socket},
    {"a listening TCP socket", bound_tcp},
    {"a UDP socket", udp_socket},
    {"a netlink socket", netlink_socket},
    {"a packet socket", raw_socket},
    {"/dev/null", null_device},
    {"/dev/zero", zero},
    {"/dev/full", full},
    {"/dev/urandom", random_device},
    {"/dev/kmsg", kernel_log},
    {"the system heap", system_heap},
    {"/dev/udmabuf", udmabuf_device},
    {"a DRM device", drm_device},
    {"a DRM render node", drm_render_node},
    {"/dev/fuse", fuse_device},
    {"/proc/self/status", proc_status},
    {"/proc/self/mem", proc_memory},
    {"/proc/self/maps", proc_maps},
    {"/proc/self/fd", proc_fds},
    {"the fdinfo of a dma-buf", proc_fdinfo},
    {"a namespace", namespace},
    {"a file of sysfs", sysfs_file},
    {"the kernel's list of dma-bufs", debugfs_file},
    {"a file of a cgroup", cgroup_file},
    {"a file in shared memory", shared_memory},
    {"a pidfd", pidfd},
    {"the pidfd of a dead process", pidfd_of_dead},
    {"an io_uring", io_uring},
    {"a userfaultfd", user_faults},
    {"a userfaultfd in use", user_faults_ready},
    {"a BPF map", bpf_map},
    {"a BPF program", bpf_program},
    {"a performance event", performance_event},
    {"a Landlock ruleset", landlock},
    {"a tree of mounts", mount_tree},
    {"a file system's context", file_system_context},
    {"a mount that is nowhere", detached_mount},
    {"a message queue", message_queue},
    {"the program's own file", executable},
    {"a dma-buf that was opened as a path", buffer_as_path},
    {"a sync_file that was opened as a path", sync_file_as_path},
    {"the sender's own end", own_end},
    {"a dma-buf", buffer},
    {"a read-only dma-buf", read_only_buffer},
    {"a sync_file", sync_file},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

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

// `urgent <bytes> <descriptors>`: on a stream, the last of the bytes goes out of band, with the descriptors.
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
