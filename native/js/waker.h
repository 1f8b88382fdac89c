#pragma once

#include "js/napi_setup.h"
#include "os/result.h"

namespace dmabuf {

// Calls `wake` in JavaScript's thread, in a handle scope, whenever a descriptor is readable; and `ended`,
// once, when the environment ends: the waker is gone then. Used on the environment's thread only.
class Waker {
 public:
  struct Callbacks {
    void (*wake)(void* data);
    void (*ended)(void* data);
    void* data;
  };

  // By the event loop of Node.js. ENOSYS where the runtime has none that polls.
  static Result<Waker*> OnLoop(napi_env env, int fd, const Callbacks& callbacks);
  // By a thread of its own, for other runtimes.
  static Result<Waker*> OnThread(napi_env env, int fd, const Callbacks& callbacks);

  Waker() = default;
  Waker(const Waker&) = delete;
  Waker(Waker&&) = delete;
  Waker& operator=(const Waker&) = delete;
  Waker& operator=(Waker&&) = delete;

  // Something is waited for: it keeps the event loop alive.
  virtual void KeepAlive() {}
  // Nothing is waited for, and the event loop may end. Whether the waker is gone with it, and does not look
  // at the descriptor any more.
  virtual bool Rest() = 0;
  // Something is waited for again, after `wake` was called.
  virtual void Rearm() {}
  // Nobody is there any more to be called. Never before `ended` on Node.js, which keeps an order.
  virtual void Orphan() {}

 protected:
  virtual ~Waker() = default;
};

}  // namespace dmabuf
