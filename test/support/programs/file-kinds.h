// Every kind of file that a message can carry, for hostile-peer.c.

#pragma once

#include "channel.h"

#include <linux/bpf.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

// The program's channel, which some kinds refer to.
static int channel = 3;

static int null_device(void) { return check(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null"); }

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
