// Real fences for the tests, made by the kernel's vgem module (no hardware). Written against the kernel's
// interface drm.h and vgem_drm.h (Linux 4.9); the few structures stand here, since the headers may be
// missing. Besides, what Node has no call for: odd memfds, and Unix sockets of every kind.

#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

struct PrimeHandle {
  uint32_t handle;
  uint32_t flags;
  int32_t fd;
};
struct CreateDumb {
  uint32_t height;
  uint32_t width;
  uint32_t bpp;
  uint32_t flags;
  uint32_t handle;
  uint32_t pitch;
  uint64_t size;
};
struct CloseHandle {
  uint32_t handle;
  uint32_t pad;
};
struct FenceAttach {
  uint32_t handle;
  uint32_t flags;
  uint32_t out_fence;
  uint32_t pad;
};
struct FenceSignal {
  uint32_t fence;
  uint32_t flags;
};
constexpr unsigned long kPrimeHandleToFd = _IOWR('d', 0x2d, PrimeHandle);
constexpr unsigned long kPrimeFdToHandle = _IOWR('d', 0x2e, PrimeHandle);
constexpr unsigned long kCreateDumb = _IOWR('d', 0xb2, CreateDumb);
constexpr unsigned long kGemClose = _IOW('d', 0x09, CloseHandle);
constexpr unsigned long kFenceAttach = _IOWR('d', 0x40 + 0x1, FenceAttach);
constexpr unsigned long kFenceSignal = _IOW('d', 0x40 + 0x2, FenceSignal);
constexpr uint32_t kFenceWrite = 1;

int64_t Argument(napi_env env, napi_callback_info info, size_t index) {
  napi_value arguments[3];
  size_t count = 3;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int64_t value = 0;
  napi_get_value_int64(env, arguments[index], &value);
  return value;
}

napi_value Number(napi_env env, int64_t value) {
  napi_value result = nullptr;
  napi_create_int64(env, value, &result);
  return result;
}

napi_value Fail(napi_env env, const char* call) {
  napi_throw_error(env, strerror(errno), call);
  return nullptr;
}

// open() => fd of the vgem device
napi_value Open(napi_env env, napi_callback_info /*info*/) {
  const int fd = open("/dev/dri/card0", O_RDWR | O_CLOEXEC);
  return fd < 0 ? Fail(env, "open /dev/dri/card0: load vgem") : Number(env, fd);
}

// importBuffer(device, dmaBufFd) => handle
napi_value ImportBuffer(napi_env env, napi_callback_info info) {
  PrimeHandle request{0, 0, static_cast<int32_t>(Argument(env, info, 1))};
  if (ioctl(static_cast<int>(Argument(env, info, 0)), kPrimeFdToHandle, &request) < 0) {
    return Fail(env, "PRIME_FD_TO_HANDLE");
  }
  return Number(env, request.handle);
}

// closeBuffer(device, handle)
napi_value CloseBuffer(napi_env env, napi_callback_info info) {
  CloseHandle request{static_cast<uint32_t>(Argument(env, info, 1)), 0};
  if (ioctl(static_cast<int>(Argument(env, info, 0)), kGemClose, &request) < 0) return Fail(env, "GEM_CLOSE");
  return nullptr;
}

// createBuffer(device) => fd of a dma-buf that vgem exports
napi_value CreateBuffer(napi_env env, napi_callback_info info) {
  const int device = static_cast<int>(Argument(env, info, 0));
  CreateDumb dumb{};
  dumb.width = 64;
  dumb.height = 64;
  dumb.bpp = 32;
  if (ioctl(device, kCreateDumb, &dumb) < 0) return Fail(env, "MODE_CREATE_DUMB");
  PrimeHandle request{dumb.handle, O_CLOEXEC | O_RDWR, -1};
  if (ioctl(device, kPrimeHandleToFd, &request) < 0) return Fail(env, "PRIME_HANDLE_TO_FD");
  return Number(env, request.fd);
}

// attach(device, handle, write) => fence
napi_value Attach(napi_env env, napi_callback_info info) {
  FenceAttach request{};
  request.handle = static_cast<uint32_t>(Argument(env, info, 1));
  request.flags = Argument(env, info, 2) != 0 ? kFenceWrite : 0;
  if (ioctl(static_cast<int>(Argument(env, info, 0)), kFenceAttach, &request) < 0) {
    return Fail(env, "VGEM_FENCE_ATTACH");
  }
  return Number(env, request.out_fence);
}

// signal(device, fence)
napi_value Signal(napi_env env, napi_callback_info info) {
  FenceSignal request{static_cast<uint32_t>(Argument(env, info, 1)), 0};
  if (ioctl(static_cast<int>(Argument(env, info, 0)), kFenceSignal, &request) < 0) {
    return Fail(env, "VGEM_FENCE_SIGNAL");
  }
  return nullptr;
}

// makeMemfd(size, sealing, seals) => fd of a memfd as nobody should make one
napi_value MakeMemfd(napi_env env, napi_callback_info info) {
  const unsigned sealing = Argument(env, info, 1) != 0 ? MFD_ALLOW_SEALING : 0;
  const int fd = memfd_create("odd", MFD_CLOEXEC | sealing);
  if (fd < 0) return Fail(env, "memfd_create");
  const int seals = static_cast<int>(Argument(env, info, 2));
  if (ftruncate(fd, Argument(env, info, 0)) < 0 || (seals != 0 && fcntl(fd, F_ADD_SEALS, seals) < 0)) {
    Fail(env, "ftruncate, fcntl");
    close(fd);
    return nullptr;
  }
  return Number(env, fd);
}

// The memory of argument `index`, which must be a typed array; empty where it is none.
struct Bytes {
  void* data = nullptr;
  size_t length = 0;  // elements
};

Bytes BytesArgument(napi_env env, napi_callback_info info, size_t index) {
  napi_value arguments[3];
  size_t count = 3;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Bytes bytes;
  napi_get_typedarray_info(env, arguments[index], nullptr, &bytes.length, &bytes.data, nullptr, nullptr);
  return bytes;
}

int FdArgument(napi_env env, napi_callback_info info, size_t index = 0) {
  return static_cast<int>(Argument(env, info, index));
}

// A path's bytes, or NUL and an abstract name.
struct UnixAddress {
  sockaddr_un name{};
  socklen_t length;

  explicit UnixAddress(const Bytes& path) {
    name.sun_family = AF_UNIX;
    length = sizeof name;
    if (path.length > sizeof name.sun_path) return;
    memcpy(name.sun_path, path.data, path.length);
    length = static_cast<socklen_t>(sizeof(sa_family_t) + path.length);
  }
};

// makeSocket(domain, type) => fd
napi_value MakeSocket(napi_env env, napi_callback_info info) {
  const int fd = socket(FdArgument(env, info), FdArgument(env, info, 1), 0);
  return fd < 0 ? Fail(env, "socket") : Number(env, fd);
}

// makeSocketPair(type) => 2^31 times the one fd, plus the other
napi_value MakeSocketPair(napi_env env, napi_callback_info info) {
  int ends[2];
  if (socketpair(AF_UNIX, FdArgument(env, info), 0, ends) < 0) return Fail(env, "socketpair");
  return Number(env, (static_cast<int64_t>(ends[0]) << 31) + ends[1]);
}

// bindSocket(fd, address)
napi_value BindSocket(napi_env env, napi_callback_info info) {
  const UnixAddress address(BytesArgument(env, info, 1));
  const auto* name = reinterpret_cast<const sockaddr*>(&address.name);
  return bind(FdArgument(env, info), name, address.length) < 0 ? Fail(env, "bind") : nullptr;
}

// connectSocket(fd, address)
napi_value ConnectSocket(napi_env env, napi_callback_info info) {
  const UnixAddress address(BytesArgument(env, info, 1));
  const auto* name = reinterpret_cast<const sockaddr*>(&address.name);
  return connect(FdArgument(env, info), name, address.length) < 0 ? Fail(env, "connect") : nullptr;
}

// listenOn(fd, backlog)
napi_value ListenOn(napi_env env, napi_callback_info info) {
  return listen(FdArgument(env, info), FdArgument(env, info, 1)) < 0 ? Fail(env, "listen") : nullptr;
}

// acceptFrom(fd) => fd
napi_value AcceptFrom(napi_env env, napi_callback_info info) {
  const int fd = accept4(FdArgument(env, info), nullptr, nullptr, SOCK_CLOEXEC);
  return fd < 0 ? Fail(env, "accept4") : Number(env, fd);
}

// shutDown(fd, how)
napi_value ShutDown(napi_env env, napi_callback_info info) {
  return shutdown(FdArgument(env, info), FdArgument(env, info, 1)) < 0 ? Fail(env, "shutdown") : nullptr;
}

// setOption(fd, option, value), of SOL_SOCKET
napi_value SetOption(napi_env env, napi_callback_info info) {
  const int value = FdArgument(env, info, 2);
  const int result =
      setsockopt(FdArgument(env, info), SOL_SOCKET, FdArgument(env, info, 1), &value, sizeof value);
  return result < 0 ? Fail(env, "setsockopt") : nullptr;
}

// sendOn(fd, data, fds): the whole message at once, or an error
napi_value SendOn(napi_env env, napi_callback_info info) {
  const Bytes data = BytesArgument(env, info, 1);
  const Bytes fds = BytesArgument(env, info, 2);
  alignas(cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))];
  iovec bytes{data.data, data.length};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (fds.length > 0 && fds.length <= 253) {
    auto* header = reinterpret_cast<cmsghdr*>(control);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.length * sizeof(int));
    memcpy(CMSG_DATA(header), fds.data, fds.length * sizeof(int));
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.length * sizeof(int));
  }
  const ssize_t sent = sendmsg(FdArgument(env, info), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 ? Fail(env, "sendmsg") : nullptr;
}

// control(fd, request, argument) => what ioctl(2) returns; the argument is a number, or an array that the
// kernel reads and writes
napi_value Control(napi_env env, napi_callback_info info) {
  const auto request = static_cast<unsigned long>(Argument(env, info, 1));
  const Bytes bytes = BytesArgument(env, info, 2);
  const int fd = FdArgument(env, info);
  const int result = bytes.data != nullptr ? ioctl(fd, request, bytes.data)
                                           : ioctl(fd, request, static_cast<long>(Argument(env, info, 2)));
  return result < 0 ? Fail(env, "ioctl") : Number(env, result);
}

napi_value Init(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"open", Open},
                   {"importBuffer", ImportBuffer},
                   {"closeBuffer", CloseBuffer},
                   {"createBuffer", CreateBuffer},
                   {"attach", Attach},
                   {"signal", Signal},
                   {"makeMemfd", MakeMemfd},
                   {"makeSocket", MakeSocket},
                   {"makeSocketPair", MakeSocketPair},
                   {"bindSocket", BindSocket},
                   {"connectSocket", ConnectSocket},
                   {"listenOn", ListenOn},
                   {"acceptFrom", AcceptFrom},
                   {"shutDown", ShutDown},
                   {"setOption", SetOption},
                   {"sendOn", SendOn},
                   {"control", Control}};
  for (const auto& function : functions) {
    napi_value value = nullptr;
    napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.callback, nullptr, &value);
    napi_set_named_property(env, exports, function.name, value);
  }
  AddFaults(env, exports);
  return exports;
}

}  // namespace

NAPI_MODULE(fences, Init)
