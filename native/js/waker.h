#pragma once

#include "js/napi_setup.h"
#include "os/result.h"

namespace dmabuf::js {

// A thread that calls `wake` in JavaScript's thread whenever a descriptor is readable, for runtimes whose
// event loop does not poll; and `ended`, once, when the environment ends and the waker is deleted. Used only
// on the environment's thread.
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

  // There is a wait, which keeps the event loop alive.
  virtual void KeepAlive() = 0;
  // There is no wait, and the event loop may end.
  virtual void Rest() = 0;
  // There is a wait again, after `wake` was called.
  virtual void Rearm() = 0;
  // There is no one left to call. On Node.js, which keeps an order, never before `ended`.
  virtual void Orphan() = 0;

 protected:
  virtual ~Waker() = default;
};

}  // namespace dmabuf::js
