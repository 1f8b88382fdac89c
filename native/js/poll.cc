#include "js/poll.h"

#include <fcntl.h>
#include <poll.h>
#include <uv.h>

#include <cerrno>

namespace dmabuf {

// The uv handle and what goes with it; freed in uv's close callback, as uv demands.
struct Polls::Wait {
  uv_poll_t poll;
  UniqueFd fd;
  Polls* owner;
  uint32_t id;
  napi_ref done;

  static void OnEvent(uv_poll_t* poll, int status, int /*events*/) {
    auto* wait = static_cast<Wait*>(poll->data);
    napi_env env = wait->owner->env_;
    napi_handle_scope scope = nullptr;
    napi_open_handle_scope(env, &scope);
    napi_value done = nullptr;
    napi_get_reference_value(env, wait->done, &done);
    wait->owner->Close(wait);

    napi_value argument = nullptr;
    napi_value receiver = nullptr;
    napi_create_int32(env, status, &argument);
    napi_get_global(env, &receiver);
    // A callback scope of its own: without one, what follows the promise runs when something else wakes the
    // loop. It fails quietly where JavaScript may no longer run.
    if (napi_make_callback(env, nullptr, receiver, done, 1, &argument, nullptr) == napi_pending_exception) {
      napi_value error = nullptr;
      napi_get_and_clear_last_exception(env, &error);
      napi_fatal_exception(env, error);
    }
    napi_close_handle_scope(env, scope);
  }

  static void OnClose(uv_handle_t* handle) {
    const std::unique_ptr<Wait> wait(static_cast<Wait*>(handle->data));
    wait->owner->Closed(wait->id);
  }
};

Polls::Polls(napi_env env) : env_(env) { napi_add_async_cleanup_hook(env, OnCleanup, this, &hook_); }

Polls::~Polls() {
  if (hook_ != nullptr) napi_remove_async_cleanup_hook(hook_);
}

Result<uint32_t> Polls::Start(UniqueFd fd, short event, napi_value done) {
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env_, &loop);
  auto wait = std::make_unique<Wait>();
  // libuv makes the file non-blocking, for everybody who holds it: other processes may, and expect it to
  // block.
  const int flags = ::fcntl(fd.get(), F_GETFL);
  int result = uv_poll_init(loop, &wait->poll, fd.get());
  if (result < 0) return SystemError{-result, "epoll_ctl"};
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(fd.get(), F_SETFL, flags);
  wait->fd = std::move(fd);
  wait->owner = this;
  wait->id = ++last_id_;
  wait->poll.data = wait.get();
  napi_create_reference(env_, done, 1, &wait->done);
  Wait* started = wait.release();
  waits_.emplace(started->id, started);
  result = uv_poll_start(&started->poll, event == POLLIN ? UV_READABLE : UV_WRITABLE, Wait::OnEvent);
  if (result < 0) {
    Close(started);
    return SystemError{-result, "epoll_ctl"};
  }
  return started->id;
}

void Polls::Cancel(uint32_t id) {
  const auto entry = waits_.find(id);
  if (entry != waits_.end() && entry->second->done != nullptr) Close(entry->second);
}

void Polls::Close(Wait* wait) {
  if (wait->done == nullptr) return;
  napi_delete_reference(env_, wait->done);
  wait->done = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&wait->poll), Wait::OnClose);
}

void Polls::Closed(uint32_t id) {
  waits_.erase(id);
  if (ending_ && waits_.empty()) {
    napi_async_cleanup_hook_handle hook = hook_;
    hook_ = nullptr;
    napi_remove_async_cleanup_hook(hook);  // may delete this
  }
}

void Polls::OnCleanup(napi_async_cleanup_hook_handle /*hook*/, void* data) {
  auto* self = static_cast<Polls*>(data);
  self->ending_ = true;
  if (self->waits_.empty()) {
    napi_async_cleanup_hook_handle hook = self->hook_;
    self->hook_ = nullptr;
    napi_remove_async_cleanup_hook(hook);
    return;
  }
  for (const auto& entry : self->waits_) self->Close(entry.second);
}

}  // namespace dmabuf
