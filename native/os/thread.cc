#include "os/thread.h"

#include <csignal>
#include <ctime>

namespace dmabuf::os {
namespace {

// glibc takes the thread-local storage of the whole program out of it.
constexpr size_t kStackBytes = 256 << 10;

}  // namespace

void MakeCondition(pthread_cond_t* condition) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(condition, &attributes);
  pthread_condattr_destroy(&attributes);
}

Result<void> StartDetached(const char* name, void* (*run)(void*), void* argument) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, run, argument);
  if (error == 0) (void)pthread_setname_np(thread, name);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return SystemError{error, "pthread_create"};
  return {};
}

}  // namespace dmabuf::os
