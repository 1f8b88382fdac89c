#pragma once

#include "js/napi_setup.h"
#include "os/result.h"

namespace dmabuf::js {

// A thread that calls `wake` in JavaScript's thread whenever a descriptor is readable, for runtimes whose
// event loop polls nothing; and `ended`, once, when the environment ends: the waker is gone then. Used on the
// environment's thread only.
class Waker {
 public:
  struct Callbacks {
    void (*wake)(void* data);
    void (*ended)(void* data);
    void* data;
  };

  static Result<Waker*> OnThread(napi_env env, int fd, const Callbacks& callbacks);

  Waker() = default;
  Waker(const Waker&) = delete;
  Waker(Waker&&) = delete;
  Waker& operator=(const Waker&) = delete;
  Waker& operator=(Waker&&) = delete;

  // Something is waited for: it keeps the event loop alive.
  virtual void KeepAlive() = 0;
  // Nothing is waited for, and the event loop may end.
  virtual void Rest() = 0;
  // Something is waited for again, after `wake` was called.
  virtual void Rearm() = 0;
  // Nobody is there any more to be called. Never before `ended` on Node.js, which keeps an order.
  virtual void Orphan() = 0;

 protected:
  virtual ~Waker() = default;
};

}  // namespace dmabuf::js
