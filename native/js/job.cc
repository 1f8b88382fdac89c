#include "js/job.h"

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

namespace dmabuf {
namespace {

struct Job {
  AddonData* addon;
  UniqueFd file;
  JobWork work;
  std::optional<Result<UniqueFd>> outcome;
  napi_async_work handle = nullptr;
  napi_ref done = nullptr;
};

void Execute(napi_env /*env*/, void* data) {
  auto* job = static_cast<Job*>(data);
  job->outcome.emplace(job->work(job->file.get()));
}

// Runs in a handle scope and a callback scope, both Node's.
void Complete(napi_env env, napi_status /*status*/, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value done = nullptr;
  napi_get_reference_value(env, job->done, &done);
  napi_delete_reference(env, job->done);
  napi_delete_async_work(env, job->handle);
  if (!job->outcome || done == nullptr) return;  // cancelled: the environment is ending

  napi_value arguments[2] = {nullptr, nullptr};
  Result<UniqueFd>& outcome = *job->outcome;
  if (outcome) {
    const uint32_t handle = outcome->valid() ? job->addon->handles->AddNewBuffer(std::move(*outcome)) : 0;
    napi_create_uint32(env, handle, &arguments[0]);
    napi_get_undefined(env, &arguments[1]);
  } else {
    napi_create_int32(env, -outcome.error().number, &arguments[0]);
    napi_create_string_utf8(env, outcome.error().call, NAPI_AUTO_LENGTH, &arguments[1]);
  }
  napi_value undefined = nullptr;
  napi_get_undefined(env, &undefined);
  napi_call_function(env, undefined, done, 2, arguments, nullptr);
}

}  // namespace

bool QueueJob(Call& call, const char* name, UniqueFd file, JobWork work, napi_value done) {
  auto job = std::make_unique<Job>();
  job->addon = &call.addon();
  job->file = std::move(file);
  job->work = std::move(work);
  napi_env env = call.env();
  if (napi_create_async_work(env, nullptr, call.Text(name), Execute, Complete, job.get(), &job->handle) !=
      napi_ok) {
    return call.Fail(SystemError{ENOMEM, "uv_queue_work"});
  }
  napi_create_reference(env, done, 1, &job->done);
  if (napi_queue_async_work(env, job->handle) != napi_ok) {
    napi_delete_reference(env, job->done);
    napi_delete_async_work(env, job->handle);
    return call.Fail(SystemError{ENOMEM, "uv_queue_work"});
  }
  (void)job.release();
  return true;
}

}  // namespace dmabuf
