// Makes chosen system calls of the dmabuf addon fail, and of nobody else in the process: the addresses in its
// own global offset table, through which it calls the C library and libuv, are replaced by functions of this
// file. Needs no rights and works on any kernel. What Node, libuv and the C++ library do themselves goes on
// as ever.
//
// Or the kernel does the failing: a kernel with CONFIG_FAULT_INJECTION is told to refuse the n-th allocation
// that the calling thread makes, and the call is then really made.

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <node_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <vector>

namespace {

// A system call as scripts tell them apart: the function, and what it was asked for (an ioctl's request, an
// option).
struct Kind {
  const char* function;
  uint64_t detail;
  uint32_t count;
};

std::mutex mutex;
Kind kinds[512];
size_t kind_count = 0;
bool counting = false;

// Which of them fails: from the `first` on, `times` in a row, with this errno; or with what comes of it when
// the kernel fails in its n-th allocation, if `allocation` is not 0.
struct Order {
  std::string function;
  uint64_t detail = 0;
  uint32_t first = 0;
  uint32_t times = 0;
  int error = 0;
  uint32_t allocation = 0;
} order;
uint32_t hits = 0;

// What came of the kernel's failure: the call's errno, 0 where the kernel has coped, kUnasked where the call
// makes fewer allocations.
constexpr int kUnasked = -1;
int outcome = kUnasked;

// In place of an errno: the call is made, in a thread whose allocations fail.
constexpr int kAllocation = -1;

// /proc/self/task/N/fail-nth (Documentation/fault-injection/fault-injection.rst): while this lives, the n-th
// allocation of the calling thread fails.
class FailingAllocation {
 public:
  FailingAllocation() : fd_(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) { Set(order.allocation); }
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;

  // Ends it. `error`: the call's errno, 0 where it has succeeded.
  void End(int error) {
    char text[16] = {};
    const bool failed = pread(fd_, text, sizeof text - 1, 0) > 0 && atoi(text) == 0;
    Set(0);
    close(fd_);
    const std::lock_guard<std::mutex> lock(mutex);
    if (!failed) {
      hits--;
    } else {
      outcome = error;
    }
    errno = error;
  }

 private:
  void Set(uint32_t nth) const {
    char text[16];
    const int length = snprintf(text, sizeof text, "%u", nth);
    // The kernel counts from here on: the write itself allocates nothing.
    if (pwrite(fd_, text, static_cast<size_t>(length), 0) != length) abort();
  }

  const int fd_;
};

// Counts the call. The errno that it shall fail with, kAllocation, or 0.
int ErrorFor(const char* function, uint64_t detail) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!counting) return 0;
  Kind* kind = nullptr;
  for (size_t index = 0; index < kind_count && kind == nullptr; index++) {
    if (kinds[index].detail == detail && strcmp(kinds[index].function, function) == 0) kind = &kinds[index];
  }
  if (kind == nullptr) {
    if (kind_count == sizeof kinds / sizeof *kinds) return 0;
    kind = &kinds[kind_count++];
    *kind = {function, detail, 0};
  }
  kind->count++;
  if (order.times == 0 || order.detail != detail || order.function != function) return 0;
  if (kind->count < order.first || kind->count - order.first >= order.times) return 0;
  hits++;
  return order.allocation > 0 ? kAllocation : order.error;
}

struct Wrapper {
  const char* names;  // of the same function in all its disguises, each between two spaces
  void* replacement;
  void** real;
};

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
WRAP(int64_t, lseek, -1, static_cast<unsigned>(whence), (int fd, int64_t offset, int whence),
     (fd, offset, whence))
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

struct Search {
  std::string path;
  bool found = false;
  std::vector<std::string> others;  // what the addon imports and no wrapper stands for
};

void Replace(Search* search, const dl_phdr_info* object, const ElfW(Rela) & entry, const ElfW(Sym) * symbols,
             const char* names) {
  const auto index = ELF64_R_SYM(entry.r_info);
  if (index == 0) return;
  const char* name = names + symbols[index].st_name;
  if (symbols[index].st_shndx != SHN_UNDEF) return;
  const std::string wanted = std::string(" ") + name + " ";
  for (const Wrapper& wrapper : kWrappers) {
    if (strstr(wrapper.names, wanted.c_str()) == nullptr) continue;
    auto* slot = reinterpret_cast<void**>(object->dlpi_addr + entry.r_offset);
    if (*slot == wrapper.replacement) return;
    const auto page = static_cast<uintptr_t>(getpagesize());
    auto* start = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(slot) & ~(page - 1));
    // Read-only since the linker was done with it (-z relro).
    if (mprotect(start, page, PROT_READ | PROT_WRITE) != 0) return;
    *wrapper.real = *slot;
    *slot = wrapper.replacement;
    mprotect(start, page, PROT_READ);
    return;
  }
  search->others.emplace_back(name);
}

int Visit(dl_phdr_info* object, size_t /*size*/, void* data) {
  auto* search = static_cast<Search*>(data);
  if (object->dlpi_name == nullptr || search->path != object->dlpi_name) return 0;
  search->found = true;
  const ElfW(Dyn)* dynamic = nullptr;
  for (int index = 0; index < object->dlpi_phnum; index++) {
    const ElfW(Phdr) & header = object->dlpi_phdr[index];
    if (header.p_type == PT_DYNAMIC)
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(object->dlpi_addr + header.p_vaddr);
  }
  const ElfW(Rela) * tables[2] = {nullptr, nullptr};
  size_t sizes[2] = {0, 0};
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; dynamic++) {
    // glibc has made addresses of these offsets, musl has not.
    const uintptr_t value = dynamic->d_un.d_ptr;
    const uintptr_t address = value < object->dlpi_addr ? object->dlpi_addr + value : value;
    if (dynamic->d_tag == DT_JMPREL) tables[0] = reinterpret_cast<const ElfW(Rela)*>(address);
    if (dynamic->d_tag == DT_RELA) tables[1] = reinterpret_cast<const ElfW(Rela)*>(address);
    if (dynamic->d_tag == DT_PLTRELSZ) sizes[0] = dynamic->d_un.d_val;
    if (dynamic->d_tag == DT_RELASZ) sizes[1] = dynamic->d_un.d_val;
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(address);
    if (dynamic->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(address);
  }
  for (size_t table = 0; table < 2; table++) {
    for (size_t index = 0; tables[table] != nullptr && index < sizes[table] / sizeof(ElfW(Rela)); index++) {
      Replace(search, object, tables[table][index], symbols, names);
    }
  }
  return 1;
}

std::string TextArgument(napi_env env, napi_value value) {
  char text[4096];
  size_t length = 0;
  napi_get_value_string_utf8(env, value, text, sizeof text, &length);
  return {text, length};
}

double NumberArgument(napi_env env, napi_value value) {
  double number = 0;
  napi_get_value_double(env, value, &number);
  return number;
}

// intercept(path of the addon, which is loaded) => the names that it imports and that are not intercepted
napi_value Intercept(napi_env env, napi_callback_info info) {
  napi_value arguments[1];
  size_t count = 1;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Search search;
  search.path = TextArgument(env, arguments[0]);
  dl_iterate_phdr(Visit, &search);
  if (!search.found) {
    napi_throw_error(env, nullptr, "the addon is not loaded from there");
    return nullptr;
  }
  napi_value result = nullptr;
  napi_create_array(env, &result);
  for (size_t index = 0; index < search.others.size(); index++) {
    napi_value name = nullptr;
    napi_create_string_utf8(env, search.others[index].c_str(), NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, result, static_cast<uint32_t>(index), name);
  }
  return result;
}

// start(function?, detail, first, times, errno, allocation): counts calls from now on, and lets those fail
napi_value Start(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  size_t count = 6;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  const std::lock_guard<std::mutex> lock(mutex);
  order = {};
  if (count == 6) {
    order.function = TextArgument(env, arguments[0]);
    order.detail = static_cast<uint64_t>(NumberArgument(env, arguments[1]));
    order.first = static_cast<uint32_t>(NumberArgument(env, arguments[2]));
    order.times = static_cast<uint32_t>(NumberArgument(env, arguments[3]));
    order.error = static_cast<int>(NumberArgument(env, arguments[4]));
    order.allocation = static_cast<uint32_t>(NumberArgument(env, arguments[5]));
  }
  hits = 0;
  outcome = kUnasked;
  kind_count = 0;
  counting = true;
  return nullptr;
}

// stop() => how many calls have failed; none do from now on
napi_value Stop(napi_env env, napi_callback_info /*info*/) {
  const std::lock_guard<std::mutex> lock(mutex);
  counting = false;
  order.times = 0;
  napi_value result = nullptr;
  napi_create_uint32(env, hits, &result);
  return result;
}

// outcome() => what came of the kernel's failure: the call's errno, 0, or -1 where none was asked for
napi_value Outcome(napi_env env, napi_callback_info /*info*/) {
  const std::lock_guard<std::mutex> lock(mutex);
  napi_value result = nullptr;
  napi_create_int32(env, outcome, &result);
  return result;
}

// counts() => function, detail, count, function, …
napi_value Counts(napi_env env, napi_callback_info /*info*/) {
  const std::lock_guard<std::mutex> lock(mutex);
  napi_value result = nullptr;
  napi_create_array(env, &result);
  uint32_t at = 0;
  for (size_t index = 0; index < kind_count; index++) {
    napi_value value = nullptr;
    napi_create_string_utf8(env, kinds[index].function, NAPI_AUTO_LENGTH, &value);
    napi_set_element(env, result, at++, value);
    napi_create_double(env, static_cast<double>(kinds[index].detail), &value);
    napi_set_element(env, result, at++, value);
    napi_create_uint32(env, kinds[index].count, &value);
    napi_set_element(env, result, at++, value);
  }
  return result;
}

void Append(napi_env env, napi_value list, const std::string& text) {
  uint32_t length = 0;
  napi_get_array_length(env, list, &length);
  napi_value value = nullptr;
  napi_create_string_latin1(env, text.data(), text.size(), &value);
  napi_set_element(env, list, length, value);
}

// look() => "fd target" of every descriptor, then "=range" of every mapping of a dma-buf or memfd. In C++,
// since it is done twice for each of thousands of injections, on an emulated processor.
napi_value Look(napi_env env, napi_callback_info /*info*/) {
  napi_value result = nullptr;
  napi_create_array(env, &result);
  DIR* folder = opendir("/proc/self/fd");
  for (const dirent* entry = nullptr; folder != nullptr && (entry = readdir(folder)) != nullptr;) {
    const int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(folder)) continue;
    char target[512];
    const ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target);
    if (length < 0) continue;
    std::string text(target, static_cast<size_t>(length));
    if (text.compare(0, 8, "/dmabuf:") == 0) text.resize(8);  // names may change
    Append(env, result, std::to_string(fd) + " " + text);
  }
  if (folder != nullptr) closedir(folder);
  FILE* maps = fopen("/proc/self/maps", "r");
  char* line = nullptr;
  size_t capacity = 0;
  while (maps != nullptr && getline(&line, &capacity, maps) > 0) {
    if (strstr(line, "/dmabuf:") == nullptr && strstr(line, "/memfd:dmabuf") == nullptr) continue;
    Append(env, result, "=" + std::string(line, strchr(line, ' ')));
  }
  free(line);
  if (maps != nullptr) fclose(maps);
  return result;
}

napi_value Init(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"intercept", Intercept}, {"start", Start},   {"stop", Stop},
                   {"outcome", Outcome},     {"counts", Counts}, {"look", Look}};
  for (const auto& function : functions) {
    napi_value value = nullptr;
    napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.callback, nullptr, &value);
    napi_set_named_property(env, exports, function.name, value);
  }
  return exports;
}

}  // namespace

NAPI_MODULE(inject, Init)
