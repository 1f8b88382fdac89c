// Real bus errors: an access to a mapped file beyond its end is what the kernel answers with SIGBUS
// everywhere, as exporters of dma-bufs do whose device was removed.

#include "faults.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

// A file of no length behind pages at `address`, or anywhere.
void* MapNothing(void* address, size_t length) {
  const int fd = memfd_create("nothing", MFD_CLOEXEC);
  if (fd < 0) return MAP_FAILED;
  void* mapped = MAP_FAILED;
  if (ftruncate(fd, static_cast<off_t>(length)) == 0) {
    const int fixed = address == nullptr ? 0 : MAP_FIXED;
    mapped = mmap(address, length, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, fd, 0);
    if (ftruncate(fd, 0) < 0) mapped = MAP_FAILED;
  }
  close(fd);
  return mapped;
}

int64_t Argument(napi_env env, napi_callback_info info, size_t index) {
  napi_value arguments[2];
  size_t count = 2;
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

// loseMemory(address, length): what is mapped there answers with SIGBUS from now on
napi_value LoseMemory(napi_env env, napi_callback_info info) {
  void* address = reinterpret_cast<void*>(Argument(env, info, 0));
  if (MapNothing(address, static_cast<size_t>(Argument(env, info, 1))) == MAP_FAILED) {
    napi_throw_error(env, strerror(errno), "mmap");
  }
  return nullptr;
}

constexpr size_t kPage = 4096;
// Read by the handler.
volatile char* volatile own = nullptr;
volatile int64_t caught = 0;

// Replaces its own page; it knows no others.
void OnOwnFault(int /*signal*/, siginfo_t* info, void* /*context*/) {
  char* page = const_cast<char*>(own);
  if (info->si_addr < page || info->si_addr >= page + kPage) _exit(99);
  mmap(page, kPage, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  caught = caught + 1;
}

// catchFaults(): another handler of SIGBUS in this process, of somebody who cares for one page
napi_value CatchFaults(napi_env /*env*/, napi_callback_info /*info*/) {
  struct sigaction action = {};
  action.sa_sigaction = OnOwnFault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
  return nullptr;
}

// fault(): reads a byte that is nobody's but this addon's, with SIGBUS; returns how many were caught
napi_value Fault(napi_env env, napi_callback_info /*info*/) {
  own = static_cast<char*>(MapNothing(nullptr, kPage));
  (void)own[0];
  munmap(const_cast<char*>(own), kPage);
  return Number(env, caught);
}

}  // namespace

void AddFaults(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"loseMemory", LoseMemory}, {"catchFaults", CatchFaults}, {"fault", Fault}};
  for (const auto& function : functions) {
    napi_value value = nullptr;
    napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.callback, nullptr, &value);
    napi_set_named_property(env, exports, function.name, value);
  }
}
