#include "js/job.h"

#include <cerrno>
#include <optional>
#include <utility>

namespace dmabuf::js {
namespace {

class DescriptorJob : public Job {
 public:
  DescriptorJob(AddonData* addon, UniqueFd file, JobWork work)
      : addon_(addon), file_(std::move(file)), work_(std::move(work)) {}

  void Run() override {
    outcome_.emplace(work_(file_.get()));
    work_ = nullptr;  // with what it owns: the kernel has counted the memory by now
  }

  void Finish(napi_env env, napi_value* first, napi_value* second) override {
    if (!*outcome_) return FinishWith(env, outcome_->error(), first, second);
    UniqueFd& made = **outcome_;
    uint32_t slot = 0;
    if (made.valid()) {
      slot = addon_->handles->AddNewBuffer(std::move(made));
      addon_->unclaimed->Reclaim();
      addon_->unclaimed->AddSlot(slot);
    }
    napi_create_uint32(env, slot, first);
    napi_get_undefined(env, second);
  }

 private:
  AddonData* addon_;
  UniqueFd file_;
  JobWork work_;
  std::optional<Result<UniqueFd>> outcome_;
};

}  // namespace

void Job::FinishWith(napi_env env, const SystemError& error, napi_value* first, napi_value* second) {
  napi_create_int32(env, -error.number, first);
  napi_create_string_utf8(env, error.call, NAPI_AUTO_LENGTH, second);
}

void Job::Execute(napi_env /*env*/, void* data) {
  auto* job = static_cast<Job*>(data);
  job->Run();
  job->has_run_ = true;
}

// Runs in a handle scope and a callback scope, both Node's.
void Job::Complete(napi_env env, napi_status /*status*/, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value done = nullptr;
  napi_get_reference_value(env, job->done_, &done);
  napi_delete_reference(env, job->done_);
  napi_delete_async_work(env, job->handle_);
  if (!job->has_run_ || done == nullptr) return;  // cancelled: the environment is ending

  napi_value arguments[2] = {nullptr, nullptr};
  job->Finish(env, &arguments[0], &arguments[1]);
  napi_value undefined = nullptr;
  napi_get_undefined(env, &undefined);
  napi_call_function(env, undefined, done, 2, arguments, nullptr);
}

bool QueueJob(Call& call, const char* name, std::unique_ptr<Job> job, napi_value done) {
  napi_env env = call.env();
  if (napi_create_async_work(env, nullptr, call.Text(name), Job::Execute, Job::Complete, job.get(),
                             &job->handle_) != napi_ok) {
    return call.Fail(SystemError{ENOMEM, "uv_queue_work"});
  }
  napi_create_reference(env, done, 1, &job->done_);
  if (napi_queue_async_work(env, job->handle_) != napi_ok) {
    napi_delete_reference(env, job->done_);
    napi_delete_async_work(env, job->handle_);
    return call.Fail(SystemError{ENOMEM, "uv_queue_work"});
  }
  (void)job.release();
  return true;
}

bool QueueJob(Call& call, const char* name, UniqueFd file, JobWork work, napi_value done) {
  auto job = std::make_unique<DescriptorJob>(&call.addon(), std::move(file), std::move(work));
  return QueueJob(call, name, std::move(job), done);
}

}  // namespace dmabuf::js
