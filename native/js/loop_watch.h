#pragma once

#include <uv.h>

#include "js/napi_setup.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// One descriptor that the event loop of Node.js watches. Used on the environment's thread only.
//
// The loop's own epoll watches it directly. A set of ours that the loop watches in turn would be an epoll in
// an epoll: to add to such a set, the kernel takes the one lock that it has for all of them in the system,
// which any process can keep for as long as it likes.
class LoopWatch {
 public:
  struct Callbacks {
    // It is ready, or failed; in a handle scope.
    void (*ready)(void* data, uint32_t id, int error);
    // The environment ends: all watches have to be closed.
    void (*ended)(void* data);
    void* data;
  };

  // ENOSYS where the runtime has no loop that polls.
  static Result<LoopWatch*> Start(napi_env env, uint32_t id, int fd, short event, const Callbacks& callbacks);
  // The watch is gone with it. The file may be closed then.
  void Close();

  LoopWatch(const LoopWatch&) = delete;
  LoopWatch(LoopWatch&&) = delete;
  LoopWatch& operator=(const LoopWatch&) = delete;
  LoopWatch& operator=(LoopWatch&&) = delete;

 private:
  LoopWatch(napi_env env, uint32_t id, const Callbacks& callbacks)
      : env_(env), id_(id), callbacks_(callbacks) {}
  ~LoopWatch() = default;

  Result<void> Init(uv_loop_t* loop, int fd);
  Result<void> Begin(uv_loop_t* loop, int fd, short event);
  static void OnReady(uv_poll_t* poll, int status, int events);
  static void OnCleanup(napi_async_cleanup_hook_handle hook, void* data);

  napi_env env_;
  uint32_t id_;
  Callbacks callbacks_;
  UniqueFd number_;  // a copy's; none where the process had no descriptor left for it
  uv_poll_t poll_{};
  napi_async_cleanup_hook_handle hook_ = nullptr;
  bool closing_ = false;
};

}  // namespace dmabuf::js
