// Real fences for the tests, made by the kernel's vgem module (no hardware). Written against the kernel's
// interface drm.h and vgem_drm.h (Linux 4.9); the few structures stand here, since the headers may be
// missing.

#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
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
                   {"makeMemfd", MakeMemfd}};
  for (const auto& function : functions) {
    napi_value value = nullptr;
    napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.callback, nullptr, &value);
    napi_set_named_property(env, exports, function.name, value);
  }
  return exports;
}

}  // namespace

NAPI_MODULE(fences, Init)
