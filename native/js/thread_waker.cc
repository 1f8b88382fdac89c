#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>

#include "js/waker.h"
#include "os/unique_fd.h"

namespace dmabuf::js {
namespace {

// A thread that sleeps in poll(2). When the descriptor is readable, it reports this once, and checks again
// when it is told to: until then, the other thread has not yet processed the events.
class ThreadWaker : public Waker {
 public:
  ThreadWaker(napi_env env, int fd, const Callbacks& callbacks) : env_(env), fd_(fd), callbacks_(callbacks) {}

  // Deletes the object, at once or later, when it fails.
  Result<Waker*> Start() {
    told_ = UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!told_.valid()) {
      const SystemError error{errno, "eventfd"};
      delete this;
      return error;
    }
    napi_value name = nullptr;
    napi_create_string_utf8(env_, "dmabuf.wait", NAPI_AUTO_LENGTH, &name);
    if (napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                        OnReadable, &function_) != napi_ok) {
      delete this;
      return SystemError{ENOMEM, "napi_create_threadsafe_function"};
    }
    napi_unref_threadsafe_function(env_, function_);
    // Signals are for the threads of the runtime.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread_, nullptr, Run, this);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error != 0) {
      ending_ = true;
      napi_release_threadsafe_function(function_, napi_tsfn_abort);
      return SystemError{error, "pthread_create"};
    }
    // Added later than the function's own hook, and so called before it: the thread must not use the
    // function after its deletion.
    napi_add_env_cleanup_hook(env_, OnCleanup, this);
    return static_cast<Waker*>(this);
  }

  void KeepAlive() override { napi_ref_threadsafe_function(env_, function_); }

  // To end and to begin a thread for each wait costs too much.
  void Rest() override { napi_unref_threadsafe_function(env_, function_); }

  void Rearm() override { Tell(); }

  void Orphan() override {
    napi_remove_env_cleanup_hook(env_, OnCleanup, this);
    Stop();
  }

 private:
  void Tell() {
    const uint64_t one = 1;
    (void)!::write(told_.get(), &one, sizeof one);
  }

  static void* Run(void* data) {
    (void)pthread_setname_np(pthread_self(), "dmabuf-wait");
    auto* self = static_cast<ThreadWaker*>(data);
    bool armed = false;
    for (;;) {
      pollfd files[] = {{self->told_.get(), POLLIN, 0}, {armed ? self->fd_ : -1, POLLIN, 0}};
      if (::poll(files, 2, -1) < 0 && errno != EINTR) return nullptr;
      if (self->ending_) return nullptr;
      uint64_t count = 0;
      if (::read(self->told_.get(), &count, sizeof count) > 0) armed = true;
      if (files[1].revents == 0) continue;
      armed = false;
      if (napi_call_threadsafe_function(self->function_, nullptr, napi_tsfn_nonblocking) != napi_ok)
        return nullptr;
    }
  }

  static void OnReadable(napi_env env, napi_value /*function*/, void* context, void* /*data*/) {
    if (env == nullptr) return;  // the environment has ended
    auto* self = static_cast<ThreadWaker*>(context);
    if (!self->ending_) self->callbacks_.wake(self->callbacks_.data);
  }

  static void OnCleanup(void* data) {
    auto* self = static_cast<ThreadWaker*>(data);
    self->callbacks_.ended(self->callbacks_.data);
    self->Stop();
  }

  // Queued calls may still arrive; the object is deleted with the function.
  void Stop() {
    ending_ = true;
    Tell();
    pthread_join(thread_, nullptr);
    told_.Reset();  // the object itself may have to stay: for a terminated worker, nothing deletes it
    napi_release_threadsafe_function(function_, napi_tsfn_release);
  }

  static void Delete(napi_env /*env*/, void* data, void* /*hint*/) { delete static_cast<ThreadWaker*>(data); }

  napi_env env_;
  int fd_;
  Callbacks callbacks_;
  UniqueFd told_;
  napi_threadsafe_function function_ = nullptr;
  pthread_t thread_{};
  std::atomic<bool> ending_{false};
};

}  // namespace

Result<Waker*> Waker::OnThread(napi_env env, int fd, const Callbacks& callbacks) {
  return (new ThreadWaker(env, fd, callbacks))->Start();
}

}  // namespace dmabuf::js
