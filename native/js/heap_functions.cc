#include <fcntl.h>

#include <climits>
#include <memory>
#include <optional>

#include "js/functions.h"
#include "os/dma_heap.h"
#include "os/file.h"

namespace dmabuf {
namespace {

// An allocation on the thread pool. It has its own copy of the heap's descriptor, so the heap may be closed
// meanwhile.
struct AllocationJob {
  AddonData* addon;
  UniqueFd heap;
  uint64_t size;
  int access_mode;
  std::optional<Result<UniqueFd>> outcome;
  napi_async_work work = nullptr;
  napi_ref done = nullptr;
};

void Execute(napi_env /*env*/, void* data) {
  auto* job = static_cast<AllocationJob*>(data);
  job->outcome.emplace(AllocateFromHeap(job->heap.get(), job->size, job->access_mode));
}

// Runs in a handle scope and a callback scope, both Node's. Whatever happens here the job goes, and with it
// a buffer that found no owner.
void Complete(napi_env env, napi_status /*status*/, void* data) {
  const std::unique_ptr<AllocationJob> job(static_cast<AllocationJob*>(data));
  napi_value done = nullptr;
  napi_get_reference_value(env, job->done, &done);
  napi_delete_reference(env, job->done);
  napi_delete_async_work(env, job->work);
  if (!job->outcome || done == nullptr) return;  // cancelled: the environment is ending

  napi_value arguments[2] = {nullptr, nullptr};
  Result<UniqueFd>& outcome = *job->outcome;
  if (outcome) {
    napi_create_uint32(env, job->addon->handles->AddNewBuffer(std::move(*outcome)), &arguments[0]);
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

napi_value OpenHeap(Call& call) {
  char path[PATH_MAX + 1];  // one more: the kernel itself shall say ENAMETOOLONG
  if (!call.Read(0, path, sizeof path)) return nullptr;
  Result<UniqueFd> fd = OpenForReading(path);
  if (!fd) return call.Fail(fd.error(), path), nullptr;
  const Result<bool> is_heap = IsDmaHeap(fd->get());
  if (!is_heap) return call.Fail(is_heap.error(), path), nullptr;
  if (!*is_heap) return call.Fail(SystemError{ENOTTY, "open"}, path), nullptr;
  const Result<FileStatus> status = StatusOf(fd->get());
  if (!status) return call.Fail(status.error(), path), nullptr;
  call.addon().registers[0] = fd->get();
  return call.Number(call.addon().handles->Add(HandleKind::kHeap, std::move(*fd), *status));
}

napi_value AllocateSync(Call& call) {
  Handle* heap = nullptr;
  uint64_t size = 0;
  int32_t access_mode = 0;
  if (!call.Read(0, HandleKind::kHeap, &heap) || !call.Read(1, &size) || !call.Read(2, &access_mode)) {
    return nullptr;
  }
  Result<UniqueFd> buffer = AllocateFromHeap(heap->fd.get(), size, access_mode);
  if (!buffer) return call.Fail(buffer.error()), nullptr;
  return call.Number(call.addon().handles->AddNewBuffer(std::move(*buffer)));
}

napi_value AllocateAsync(Call& call) {
  Handle* heap = nullptr;
  auto job = std::make_unique<AllocationJob>();
  if (!call.Read(0, HandleKind::kHeap, &heap) || !call.Read(1, &job->size) ||
      !call.Read(2, &job->access_mode)) {
    return nullptr;
  }
  if (!call.CheckIdentity(*heap)) return nullptr;
  Result<UniqueFd> copy = Duplicate(heap->fd.get());
  if (!copy) return call.Fail(copy.error()), nullptr;
  job->heap = std::move(*copy);
  job->addon = &call.addon();

  napi_env env = call.env();
  napi_value name = call.Text("dmabuf.allocate");
  if (napi_create_async_work(env, nullptr, name, Execute, Complete, job.get(), &job->work) != napi_ok) {
    return nullptr;
  }
  napi_create_reference(env, call.argument(3), 1, &job->done);
  napi_queue_async_work(env, job->work);
  (void)job.release();
  return nullptr;
}

}  // namespace dmabuf
