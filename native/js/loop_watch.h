#pragma once

#include <uv.h>

#include "js/napi_setup.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// One descriptor that the event loop of Node.js watches. Used only on the environment's thread.
//
// The loop's own epoll watches it directly. If the loop watched a set of ours, that would be an epoll within
// an epoll: to add to such a set, the kernel takes a lock that is common to the whole system, and which any
// process can hold for ever.
class LoopWatch {
 public:
  struct Callbacks {
    // Called when it is ready, or has failed; in a handle scope.
    void (*ready)(void* data, uint32_t id, int error);
    // The environment ends: all watches have to be closed.
    void (*ended)(void* data);
    void* data;
  };

  // ENOSYS if the runtime has no loop that polls.
  static Result<LoopWatch*> Start(napi_env env, uint32_t id, int fd, short event, const Callbacks& callbacks);
  // Ends the watch and deletes the object. After that the file may be closed.
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
  UniqueFd number_;  // of a copy; none if the process had no descriptor left
  uv_poll_t poll_{};
  napi_async_cleanup_hook_handle hook_ = nullptr;
  bool closing_ = false;
};

}  // namespace dmabuf::js
