#include "js/loop_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

// Other runtimes may lack these functions, and then could not load the addon.
#pragma weak uv_poll_init
#pragma weak uv_poll_start
#pragma weak uv_backend_fd
#pragma weak uv_close

namespace dmabuf::js {
namespace {

// uv_poll_init() makes a file non-blocking, for all its holders.
Result<void> InitUnchanged(uv_loop_t* loop, uv_poll_t* poll, int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  const int result = uv_poll_init(loop, poll, fd);
  if (flags >= 0) (void)::fcntl(fd, F_SETFL, flags);
  // At most one copy can do without a number of its own.
  if (result == UV_EEXIST) return SystemError{EMFILE, "eventfd"};
  if (result < 0) return SystemError{-result, "uv_poll_init"};
  return {};
}

}  // namespace

// Initialised with an eventfd, which the file then replaces: so the file is not affected by uv_poll_init().
Result<void> LoopWatch::Init(uv_loop_t* loop, int fd) {
  number_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (number_.valid()) {
    const int result = uv_poll_init(loop, &poll_, number_.get());
    if (result < 0) return SystemError{-result, "uv_poll_init"};
    return {};
  }
  if (errno != EMFILE && errno != ENFILE) return SystemError{errno, "eventfd"};
  // Without a copy, the loop continues to watch the file if other code closes it. This is better than not to
  // wait at all because no descriptor is left.
  return InitUnchanged(loop, &poll_, fd);
}

Result<void> LoopWatch::Begin(uv_loop_t* loop, int fd, short event) {
  const int watched = number_.valid() ? number_.get() : fd;
  if (number_.valid() && ::dup3(fd, watched, O_CLOEXEC) < 0) return SystemError{errno, "dup3"};
  // It starts what has been initialised, and so cannot fail. It first takes the file out of the epoll.
  uv_poll_start(&poll_, event == POLLIN ? UV_READABLE : UV_WRITABLE, OnReady);
  // libuv itself adds it in the loop's next turn, and ends the process if that fails. If it is there
  // already, libuv changes it instead, which cannot fail.
  epoll_event nothing{};
  nothing.data.fd = watched;
  if (::epoll_ctl(uv_backend_fd(loop), EPOLL_CTL_ADD, watched, &nothing) < 0) {
    return SystemError{errno, "epoll_ctl"};
  }
  return {};
}

Result<LoopWatch*> LoopWatch::Start(napi_env env, uint32_t id, int fd, short event,
                                    const Callbacks& callbacks) {
  uv_loop_t* loop = nullptr;
  if (uv_poll_init == nullptr || napi_get_uv_event_loop(env, &loop) != napi_ok || loop == nullptr) {
    return SystemError{ENOSYS, "uv_poll_init"};
  }
  auto* watch = new LoopWatch(env, id, callbacks);
  const Result<void> initialised = watch->Init(loop, fd);
  if (!initialised) {
    delete watch;
    return initialised.error();
  }
  watch->poll_.data = watch;
  // Keeps the addon's data until the handle is closed.
  napi_add_async_cleanup_hook(env, OnCleanup, watch, &watch->hook_);
  const Result<void> begun = watch->Begin(loop, fd, event);
  if (begun) return watch;
  watch->Close();
  return begun.error();
}

void LoopWatch::OnReady(uv_poll_t* poll, int status, int /*events*/) {
  const auto* self = static_cast<LoopWatch*>(poll->data);
  napi_env env = self->env_;
  napi_handle_scope scope = nullptr;
  napi_open_handle_scope(env, &scope);
  self->callbacks_.ready(self->callbacks_.data, self->id_, -status);
  napi_close_handle_scope(env, scope);
}

void LoopWatch::OnCleanup(napi_async_cleanup_hook_handle /*hook*/, void* data) {
  auto* self = static_cast<LoopWatch*>(data);
  if (!self->closing_) self->callbacks_.ended(self->callbacks_.data);
}

// libuv forgets the descriptor at once, and the handle in its next turn.
void LoopWatch::Close() {
  closing_ = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), [](uv_handle_t* handle) {
    auto* closed = static_cast<LoopWatch*>(handle->data);
    napi_remove_async_cleanup_hook(closed->hook_);
    delete closed;
  });
  number_.Reset();
}

}  // namespace dmabuf::js
