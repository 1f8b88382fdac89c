#pragma once

#include <functional>
#include <memory>

#include "js/call.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// Work for the thread pool, and its result for JavaScript.
class Job {
 public:
  Job() = default;
  Job(const Job&) = delete;
  Job(Job&&) = delete;
  Job& operator=(const Job&) = delete;
  Job& operator=(Job&&) = delete;
  virtual ~Job() = default;

  // On the thread pool: system calls only.
  virtual void Run() = 0;
  // In JavaScript's thread: returns the arguments of `done`. Not called unless Run() was.
  virtual void Finish(napi_env env, napi_value* first, napi_value* second) = 0;

 protected:
  // The arguments for an error: -errno, and the call's name.
  static void FinishWith(napi_env env, const SystemError& error, napi_value* first, napi_value* second);

 private:
  friend bool QueueJob(Call& call, const char* name, std::unique_ptr<Job> job, napi_value done);
  static void Execute(napi_env env, void* data);
  static void Complete(napi_env env, napi_status status, void* data);

  napi_async_work handle_ = nullptr;
  napi_ref done_ = nullptr;
  bool has_run_ = false;
};

// Runs the job on the thread pool, then calls `done` with its result. Returns false with an exception
// pending when it cannot start.
bool QueueJob(Call& call, const char* name, std::unique_ptr<Job> job, napi_value done);

// The work of a job that makes a descriptor, with a descriptor of its own as argument.
using JobWork = std::function<Result<UniqueFd>(int file)>;

// Runs `work` on the thread pool, then calls `done(slot, undefined)`, or `done(-errno, the call's name)`. A
// descriptor that it yields becomes the handle of a new dma-buf; if it yields none, the number is 0. In
// every case, nothing stays open without an owner. Returns false with an exception pending when it cannot
// start.
bool QueueJob(Call& call, const char* name, UniqueFd file, JobWork work, napi_value done);

}  // namespace dmabuf::js
