#pragma once

#include <pthread.h>

#include "os/result.h"

namespace dmabuf::os {

// Holds a mutex for as long as it lives.
class Lock {
 public:
  explicit Lock(pthread_mutex_t* mutex) : mutex_(mutex) { pthread_mutex_lock(mutex_); }
  Lock(const Lock&) = delete;
  Lock(Lock&&) = delete;
  Lock& operator=(const Lock&) = delete;
  Lock& operator=(Lock&&) = delete;
  ~Lock() { pthread_mutex_unlock(mutex_); }

 private:
  pthread_mutex_t* mutex_;
};

// Makes a condition whose timed waits go by CLOCK_MONOTONIC.
void MakeCondition(pthread_cond_t* condition);

// Starts a thread that takes no signals and that nobody joins. The caller holds a lock that the thread needs
// before it ends: it is named here, so that it never goes by another name, and must still be there.
Result<void> StartDetached(const char* name, void* (*run)(void*), void* argument);

}  // namespace dmabuf::os
