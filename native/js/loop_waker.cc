#include <uv.h>

#include <cerrno>

#include "js/waker.h"

// Other runtimes may not have these, and could not load the addon for their want.
#pragma weak uv_poll_init
#pragma weak uv_poll_start
#pragma weak uv_close

namespace dmabuf {
namespace {

class LoopWaker : public Waker {
 public:
  LoopWaker(napi_env env, const Callbacks& callbacks) : env_(env), callbacks_(callbacks) {}

  Result<void> Start(int fd) {
    uv_loop_t* loop = nullptr;
    if (uv_poll_init == nullptr || napi_get_uv_event_loop(env_, &loop) != napi_ok || loop == nullptr) {
      return SystemError{ENOSYS, "uv_poll_init"};
    }
    const int result = uv_poll_init(loop, &poll_, fd);
    if (result < 0) return SystemError{-result, "uv_poll_init"};
    poll_.data = this;
    // It starts what has been initialised, and so cannot fail.
    uv_poll_start(&poll_, UV_READABLE, OnReadable);
    // Keeps the addon's data until the handle is closed.
    napi_add_async_cleanup_hook(env_, OnCleanup, this, &hook_);
    return {};
  }

  // Whoever waits seldom has no descriptor open for it meanwhile.
  bool Rest() override {
    Close();
    return true;
  }

 private:
  static void OnReadable(uv_poll_t* poll, int /*status*/, int /*events*/) {
    auto* self = static_cast<LoopWaker*>(poll->data);
    napi_env env = self->env_;
    napi_handle_scope scope = nullptr;
    napi_open_handle_scope(env, &scope);
    self->callbacks_.wake(self->callbacks_.data);
    napi_close_handle_scope(env, scope);
  }

  static void OnCleanup(napi_async_cleanup_hook_handle /*hook*/, void* data) {
    auto* self = static_cast<LoopWaker*>(data);
    if (self->closing_) return;
    self->callbacks_.ended(self->callbacks_.data);
    self->Close();
  }

  // libuv forgets the descriptor at once, and the handle in its next turn.
  void Close() {
    closing_ = true;
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_), [](uv_handle_t* handle) {
      auto* closed = static_cast<LoopWaker*>(handle->data);
      napi_remove_async_cleanup_hook(closed->hook_);
      delete closed;
    });
  }

  uv_poll_t poll_;
  napi_env env_;
  Callbacks callbacks_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  bool closing_ = false;
};

}  // namespace

Result<Waker*> Waker::OnLoop(napi_env env, int fd, const Callbacks& callbacks) {
  auto* waker = new LoopWaker(env, callbacks);
  const Result<void> started = waker->Start(fd);
  if (started) return static_cast<Waker*>(waker);
  delete waker;
  return started.error();
}

}  // namespace dmabuf
