#include "wrappers.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include <string>

#include "order.h"

namespace inject {
namespace {

void* const kMapFailed = MAP_FAILED;

// A function that sets errno and returns `failure`.
#define WRAP(type, name, failure, detail, parameters, arguments) \
  WRAP_AS(#name, type, name, failure, detail, parameters, arguments)
// One that is counted by the name of another.
#define WRAP_AS(known, type, name, failure, detail, parameters, arguments) \
  type(*real_##name) parameters = nullptr;                                 \
  type Wrapped_##name parameters {                                         \
    const int error = ErrorFor(known, detail);                             \
    if (error == 0) return real_##name arguments;                          \
    if (error == kAllocation) {                                            \
      FailingAllocation failing;                                           \
      errno = 0;                                                           \
      const type result = real_##name arguments;                           \
      failing.End(result == failure ? errno : 0);                          \
      return result;                                                       \
    }                                                                      \
    errno = error;                                                         \
    return failure;                                                        \
  }
// One that returns the error itself.
#define WRAP_RETURNING(type, name, sign, detail, parameters, arguments) \
  type(*real_##name) parameters = nullptr;                              \
  type Wrapped_##name parameters {                                      \
    const int error = ErrorFor(#name, detail);                          \
    if (error == kAllocation) {                                         \
      FailingAllocation failing;                                        \
      const type result = real_##name arguments;                        \
      failing.End(sign result);                                         \
      return result;                                                    \
    }                                                                   \
    return error == 0 ? real_##name arguments : sign error;             \
  }

uint64_t DetailOfMmap(int flags, int fd) {
  return ((flags & MAP_FIXED) != 0 ? 2u : 0u) | (fd >= 0 ? 1u : 0u);
}
uint64_t DetailOfSyscall(long number, long first) {
  return static_cast<uint64_t>(number) |
         (number == SYS_bpf ? static_cast<uint64_t>(first) << 32 : uint64_t{0});
}

using Ptr = void*;
using Text = const char*;
WRAP(int, ioctl, -1, request & 0xffffffff, (int fd, unsigned long request, Ptr argument),
     (fd, request, argument))
WRAP(int, fcntl, -1, static_cast<unsigned>(command), (int fd, int command, Ptr argument),
     (fd, command, argument))
WRAP(Ptr, mmap, kMapFailed, DetailOfMmap(flags, fd),
     (Ptr address, size_t length, int protection, int flags, int fd, int64_t offset),
     (address, length, protection, flags, fd, offset))
WRAP(int, munmap, -1, 0, (Ptr address, size_t length), (address, length))
WRAP(Ptr, mremap, kMapFailed, 0, (Ptr address, size_t length, size_t now, int flags, Ptr there),
     (address, length, now, flags, there))
WRAP(int, mprotect, -1, 0, (Ptr address, size_t length, int protection), (address, length, protection))
WRAP(int, madvise, -1, static_cast<unsigned>(advice), (Ptr address, size_t length, int advice),
     (address, length, advice))
WRAP(int, memfd_create, -1, 0, (Text name, unsigned flags), (name, flags))
WRAP(int, ftruncate, -1, 0, (int fd, int64_t length), (fd, length))
WRAP(int64_t, lseek, -1, static_cast<unsigned>(from), (int fd, int64_t offset, int from), (fd, offset, from))
WRAP(int, poll, -1, 0, (Ptr fds, unsigned long count, int timeout), (fds, count, timeout))
WRAP(int, ppoll, -1, 0, (Ptr fds, unsigned long count, Ptr timeout, Ptr mask), (fds, count, timeout, mask))
WRAP(int, fstat, -1, 0, (int fd, Ptr status), (fd, status))
WRAP(int, stat, -1, 0, (Text path, Ptr status), (path, status))
// What they are in programs that were linked for a glibc before 2.33, as the package's binaries are.
WRAP_AS("fstat", int, __fxstat64, -1, 0, (int version, int fd, Ptr status), (version, fd, status))
WRAP_AS("stat", int, __xstat64, -1, 0, (int version, Text path, Ptr status), (version, path, status))
WRAP(int, lstat, -1, 0, (Text path, Ptr status), (path, status))
WRAP(int, fstatat, -1, 0, (int folder, Text path, Ptr status, int flags), (folder, path, status, flags))
WRAP(int, statx, -1, 0, (int folder, Text path, int flags, unsigned mask, Ptr status),
     (folder, path, flags, mask, status))
WRAP(int, fstatfs, -1, 0, (int fd, Ptr status), (fd, status))
WRAP(int, statfs, -1, 0, (Text path, Ptr status), (path, status))
WRAP(ssize_t, readlink, -1, 0, (Text path, char* text, size_t size), (path, text, size))
WRAP(ssize_t, readlinkat, -1, 0, (int folder, Text path, char* text, size_t size), (folder, path, text, size))
WRAP(int, open, -1, 0, (Text path, int flags, unsigned mode), (path, flags, mode))
WRAP(int, openat, -1, 0, (int folder, Text path, int flags, unsigned mode), (folder, path, flags, mode))
WRAP(int, mkdir, -1, 0, (Text path, unsigned mode), (path, mode))
WRAP(int, mkdirat, -1, 0, (int folder, Text path, unsigned mode), (folder, path, mode))
WRAP(int, rmdir, -1, 0, (Text path), (path))
WRAP(int, unlink, -1, 0, (Text path), (path))
WRAP(int, unlinkat, -1, 0, (int folder, Text path, int flags), (folder, path, flags))
WRAP(int, rename, -1, 0, (Text from, Text to), (from, to))
WRAP(int, renameat, -1, 0, (int from_folder, Text from, int to_folder, Text to),
     (from_folder, from, to_folder, to))
WRAP(int, fchmod, -1, 0, (int fd, unsigned mode), (fd, mode))
WRAP(int, fchmodat, -1, 0, (int folder, Text path, unsigned mode, int flags), (folder, path, mode, flags))
WRAP(int, fchown, -1, 0, (int fd, unsigned user, unsigned group), (fd, user, group))
WRAP(int, fchownat, -1, 0, (int folder, Text path, unsigned user, unsigned group, int flags),
     (folder, path, user, group, flags))
WRAP(int, access, -1, 0, (Text path, int mode), (path, mode))
WRAP(int, faccessat, -1, 0, (int folder, Text path, int mode, int flags), (folder, path, mode, flags))
WRAP(ssize_t, read, -1, 0, (int fd, Ptr data, size_t size), (fd, data, size))
WRAP(ssize_t, pread, -1, 0, (int fd, Ptr data, size_t size, int64_t offset), (fd, data, size, offset))
WRAP(ssize_t, write, -1, 0, (int fd, const void* data, size_t size), (fd, data, size))
WRAP(ssize_t, process_vm_readv, -1, 0,
     (int pid, Ptr local, unsigned long locals, Ptr remote, unsigned long remotes, unsigned long flags),
     (pid, local, locals, remote, remotes, flags))
WRAP(ssize_t, process_vm_writev, -1, 0,
     (int pid, Ptr local, unsigned long locals, Ptr remote, unsigned long remotes, unsigned long flags),
     (pid, local, locals, remote, remotes, flags))
WRAP(int, dup, -1, 0, (int fd), (fd))
WRAP(int, dup2, -1, 0, (int fd, int to), (fd, to))
WRAP(int, dup3, -1, 0, (int fd, int to, int flags), (fd, to, flags))
WRAP(int, pipe, -1, 0, (int* ends), (ends))
WRAP(int, pipe2, -1, 0, (int* ends, int flags), (ends, flags))
WRAP(int, eventfd, -1, 0, (unsigned value, int flags), (value, flags))
WRAP(int, epoll_create1, -1, 0, (int flags), (flags))
WRAP(int, epoll_ctl, -1, static_cast<unsigned>(operation), (int epoll, int operation, int fd, Ptr event),
     (epoll, operation, fd, event))
WRAP(int, epoll_wait, -1, 0, (int epoll, Ptr events, int count, int timeout), (epoll, events, count, timeout))
WRAP(int, timerfd_create, -1, 0, (int clock, int flags), (clock, flags))
WRAP(ssize_t, sendmsg, -1, 0, (int fd, const void* message, int flags), (fd, message, flags))
WRAP(ssize_t, recvmsg, -1, static_cast<unsigned>(flags& MSG_PEEK), (int fd, Ptr message, int flags),
     (fd, message, flags))
WRAP(ssize_t, recv, -1, static_cast<unsigned>(flags& MSG_PEEK), (int fd, Ptr data, size_t size, int flags),
     (fd, data, size, flags))
WRAP(ssize_t, send, -1, 0, (int fd, const void* data, size_t size, int flags), (fd, data, size, flags))
WRAP(int, socket, -1, static_cast<unsigned>(type & 0xf), (int domain, int type, int protocol),
     (domain, type, protocol))
WRAP(int, socketpair, -1, 0, (int domain, int type, int protocol, int* ends), (domain, type, protocol, ends))
WRAP(int, bind, -1, 0, (int fd, const void* name, unsigned length), (fd, name, length))
WRAP(int, listen, -1, 0, (int fd, int backlog), (fd, backlog))
WRAP(int, connect, -1, 0, (int fd, const void* name, unsigned length), (fd, name, length))
WRAP(int, accept4, -1, 0, (int fd, Ptr name, unsigned* length, int flags), (fd, name, length, flags))
WRAP(int, getsockopt, -1, static_cast<unsigned>(option),
     (int fd, int level, int option, Ptr value, unsigned* length), (fd, level, option, value, length))
WRAP(int, setsockopt, -1, static_cast<unsigned>(option),
     (int fd, int level, int option, const void* value, unsigned length), (fd, level, option, value, length))
WRAP(int, getpeername, -1, 0, (int fd, Ptr name, unsigned* length), (fd, name, length))
WRAP(int, getsockname, -1, 0, (int fd, Ptr name, unsigned* length), (fd, name, length))
WRAP(int, shutdown, -1, 0, (int fd, int how), (fd, how))
WRAP(int, flock, -1, 0, (int fd, int operation), (fd, operation))
WRAP(int, sysinfo, -1, 0, (Ptr info), (info))
WRAP(int, getrlimit, -1, static_cast<unsigned>(resource), (int resource, Ptr limit), (resource, limit))
WRAP(Ptr, opendir, nullptr, 0, (Text path), (path))
WRAP(Ptr, fdopendir, nullptr, 0, (int fd), (fd))
WRAP(Ptr, readdir, nullptr, 0, (Ptr folder), (folder))
WRAP(Ptr, fopen, nullptr, 0, (Text path, Text mode), (path, mode))
WRAP(long, syscall, -1, DetailOfSyscall(number, a),
     (long number, long a, long b, long c, long d, long e, long f), (number, a, b, c, d, e, f))
WRAP(int, clone, -1, 0, (Ptr function, Ptr stack, int flags, Ptr argument),
     (function, stack, flags, argument))
WRAP(int, waitpid, -1, 0, (int pid, int* status, int flags), (pid, status, flags))
WRAP(int, fchdir, -1, 0, (int fd), (fd))
WRAP_RETURNING(int, pthread_create, +, 0, (Ptr thread, const void* how, Ptr start, Ptr argument),
               (thread, how, start, argument))
WRAP_RETURNING(int, uv_poll_init, -, 0, (Ptr loop, Ptr poll, int fd), (loop, poll, fd))
WRAP_RETURNING(int, uv_poll_start, -, 0, (Ptr poll, int events, Ptr done), (poll, events, done))
WRAP_RETURNING(int, uv_thread_create, -, 0, (Ptr thread, Ptr start, Ptr argument), (thread, start, argument))
WRAP_RETURNING(int, uv_async_init, -, 0, (Ptr loop, Ptr async, Ptr done), (loop, async, done))

// The number is free afterwards, whatever close(2) has to report.
int (*real_close)(int) = nullptr;
int Wrapped_close(int fd) {
  const int error = ErrorFor("close", 0);
  if (error == kAllocation) {
    FailingAllocation failing;
    const int result = real_close(fd);
    failing.End(result == 0 ? 0 : errno);
    return result;
  }
  const int result = real_close(fd);
  if (error == 0) return result;
  errno = error;
  return -1;
}

#define ENTRY(name, names) \
  {" " #name " " names " ", reinterpret_cast<void*>(Wrapped_##name), reinterpret_cast<void**>(&real_##name)}
const Wrapper kWrappers[] = {
    ENTRY(ioctl, ""),
    ENTRY(fcntl, "fcntl64"),
    ENTRY(mmap, "mmap64"),
    ENTRY(munmap, ""),
    ENTRY(mremap, ""),
    ENTRY(mprotect, ""),
    ENTRY(madvise, ""),
    ENTRY(memfd_create, ""),
    ENTRY(ftruncate, "ftruncate64"),
    ENTRY(lseek, "lseek64"),
    ENTRY(poll, ""),
    ENTRY(ppoll, ""),
    ENTRY(fstat, "fstat64"),
    ENTRY(stat, "stat64"),
    ENTRY(__fxstat64, "__fxstat"),
    ENTRY(__xstat64, "__xstat"),
    ENTRY(lstat, "lstat64"),
    ENTRY(fstatat, "fstatat64"),
    ENTRY(statx, ""),
    ENTRY(fstatfs, "fstatfs64"),
    ENTRY(statfs, "statfs64"),
    ENTRY(readlink, ""),
    ENTRY(readlinkat, ""),
    ENTRY(open, "open64"),
    ENTRY(openat, "openat64"),
    ENTRY(mkdir, ""),
    ENTRY(mkdirat, ""),
    ENTRY(rmdir, ""),
    ENTRY(unlink, ""),
    ENTRY(unlinkat, ""),
    ENTRY(rename, ""),
    ENTRY(renameat, ""),
    ENTRY(fchmod, ""),
    ENTRY(fchmodat, ""),
    ENTRY(fchown, ""),
    ENTRY(fchownat, ""),
    ENTRY(access, ""),
    ENTRY(faccessat, ""),
    ENTRY(read, ""),
    ENTRY(pread, "pread64"),
    ENTRY(write, ""),
    ENTRY(process_vm_readv, ""),
    ENTRY(process_vm_writev, ""),
    ENTRY(dup, ""),
    ENTRY(dup2, ""),
    ENTRY(dup3, ""),
    ENTRY(pipe, ""),
    ENTRY(pipe2, ""),
    ENTRY(eventfd, ""),
    ENTRY(epoll_create1, ""),
    ENTRY(epoll_ctl, ""),
    ENTRY(epoll_wait, ""),
    ENTRY(timerfd_create, ""),
    ENTRY(sendmsg, ""),
    ENTRY(recvmsg, ""),
    ENTRY(recv, ""),
    ENTRY(send, ""),
    ENTRY(socket, ""),
    ENTRY(socketpair, ""),
    ENTRY(bind, ""),
    ENTRY(listen, ""),
    ENTRY(connect, ""),
    ENTRY(accept4, ""),
    ENTRY(getsockopt, ""),
    ENTRY(setsockopt, ""),
    ENTRY(getpeername, ""),
    ENTRY(getsockname, ""),
    ENTRY(shutdown, ""),
    ENTRY(flock, ""),
    ENTRY(sysinfo, ""),
    ENTRY(getrlimit, "getrlimit64"),
    ENTRY(opendir, ""),
    ENTRY(fdopendir, ""),
    ENTRY(readdir, "readdir64"),
    ENTRY(fopen, "fopen64"),
    ENTRY(syscall, ""),
    ENTRY(clone, ""),
    ENTRY(waitpid, ""),
    ENTRY(fchdir, ""),
    ENTRY(pthread_create, ""),
    ENTRY(uv_poll_init, ""),
    ENTRY(uv_poll_start, ""),
    ENTRY(uv_thread_create, ""),
    ENTRY(uv_async_init, ""),
    ENTRY(close, ""),
};

}  // namespace

const Wrapper* FindWrapper(const char* name) {
  const std::string wanted = std::string(" ") + name + " ";
  for (const Wrapper& wrapper : kWrappers) {
    if (strstr(wrapper.names, wanted.c_str()) != nullptr) return &wrapper;
  }
  return nullptr;
}

}  // namespace inject
