#pragma once

#include <pthread.h>

#include "os/result.h"

namespace dmabuf::os {

// Holds a mutex until the end of its scope.
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

// Starts a thread that takes no signals and is never joined. The caller holds a lock that the thread needs
// before it ends: the name is set here, so that the thread never has another name, and it must still exist.
Result<void> StartDetached(const char* name, void* (*run)(void*), void* argument);

}  // namespace dmabuf::os
