#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>

#include "js/functions.h"
#include "os/dma_buf.h"
#include "os/mapping.h"
#include "os/mapping_room.h"

namespace dmabuf::js {
namespace {

// What an ArrayBuffer's finalizer needs. It runs on the environment's thread, possibly after AddonData is
// gone, and long after the JavaScript object when the memory was moved by ArrayBuffer.prototype.transfer.
struct BufferFinalizer {
  std::shared_ptr<SharedMapping> mapping;
  std::weak_ptr<Handles> handles;
  uint32_t slot;
  uint64_t id;  // 0 for the whole-buffer mapping

  // Node runs the finalizers of all ArrayBuffers when the environment ends, though the memory may have moved
  // to another thread (transfer, then postMessage). Nothing tells which did.
  static bool EnvironmentEnds(napi_env env) {
    napi_value value = nullptr;
    napi_get_undefined(env, &value);
    return napi_coerce_to_bool(env, value, &value) != napi_ok;
  }

  static void Run(napi_env env, void* /*data*/, void* hint) {
    const std::unique_ptr<BufferFinalizer> self(static_cast<BufferFinalizer*>(hint));
    SharedMapping& shared = *self->mapping;
    const bool lost = shared.mapping && shared.mapping->lost();
    if (EnvironmentEnds(env) && shared.mapping) {
      // Nobody could be told that the kernel refused. Then the buffer's own pages stay, which is safe, too.
      (void)shared.mapping->Retire();
      shared.mapping->Abandon();
    }
    shared.mapping.reset();
    if (self->id == 0) return;
    if (const std::shared_ptr<Handles> handles = self->handles.lock()) {
      handles->Forget(self->slot, self->id, lost);
    }
  }
};

// The ArrayBuffer over a mapping; nullptr with an exception pending where the runtime has none for memory
// that is not its own.
napi_value Expose(Call& call, const std::shared_ptr<SharedMapping>& mapping, uint32_t slot, uint64_t id) {
  auto* finalizer = new BufferFinalizer{mapping, call.addon().handles, slot, id};
  napi_value buffer = nullptr;
  const napi_status status =
      napi_create_external_arraybuffer(call.env(), mapping->mapping->address(), mapping->mapping->length(),
                                       BufferFinalizer::Run, finalizer, &buffer);
  if (status != napi_ok) {
    // Any other failure comes after Node took the finalizer over, and it has run or will run.
    const bool never_taken = status == napi_no_external_buffers_allowed || status == napi_pending_exception ||
                             status == napi_cannot_run_js;
    if (never_taken) delete finalizer;
    if (status == napi_no_external_buffers_allowed) call.Fail("ERR_DMABUF_NO_EXTERNAL_BUFFERS");
    return nullptr;
  }
  mapping->exposed = true;
  return buffer;
}

// The mapping of the whole buffer, made at first use: readable, and writable where the descriptor is.
SharedMapping* WholeMapping(Call& call, Handle& handle) {
  if (IsLost(handle)) return call.Fail("ERR_DMABUF_LOST"), nullptr;
  if (handle.whole && handle.whole->mapping) return handle.whole.get();
  const Result<int> mode = os::AccessModeOf(handle.fd.get());
  if (!mode) return call.Fail(mode.error()), nullptr;
  const int protection = *mode == O_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE;
  Result<os::Mapping> mapping = os::Mapping::Create(handle.fd.get(), protection, 0, handle.size);
  if (!mapping) return call.Fail(mapping.error()), nullptr;
  handle.whole = std::make_shared<SharedMapping>(std::move(*mapping));
  return handle.whole.get();
}

// Copies between the buffer and memory of ours, between START and END of the one direction; returns true
// where fences have not signalled.
template <typename Copy>
napi_value CopyUnderAccess(Call& call, const Handle& handle, os::CpuAccess access, Copy copy) {
  const Result<bool> begun = os::TryBeginCpuAccess(handle.fd.get(), access, FencesOf(handle));
  if (!begun) return call.Fail(begun.error()), nullptr;
  if (!*begun) return call.Boolean(true);
  copy();
  const Result<void> ended = os::EndCpuAccess(handle.fd.get(), access);
  if (!ended) return call.Fail(ended.error()), nullptr;
  if (IsLost(handle)) call.Fail("ERR_DMABUF_LOST");
  return nullptr;
}

bool InRange(const Handle& handle, uint64_t position, uint64_t length) {
  return length <= handle.size && position <= handle.size - length;
}

napi_value Map(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  bool writable = false;
  uint64_t offset = 0;
  uint64_t length = 0;
  if (!call.Read(0, &slot) || !call.Read(0, HandleKind::kDmaBuf, Identity::kAsked, &handle) ||
      !call.Read(1, &writable) || !call.Read(2, &offset) || !call.Read(3, &length)) {
    return nullptr;
  }
  if (IsLost(*handle)) return call.Fail("ERR_DMABUF_LOST"), nullptr;
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  Result<os::Mapping> mapping = os::Mapping::Create(handle->fd.get(), protection, offset, length);
  if (!mapping) return call.Fail(mapping.error()), nullptr;
  const auto shared = std::make_shared<SharedMapping>(std::move(*mapping));
  const uint64_t id = call.addon().handles->NextMappingId();
  const napi_value buffer = Expose(call, shared, slot, id);
  if (buffer == nullptr) return nullptr;
  handle->mappings.emplace(id, shared);
  call.addon().Leave(Register::kMapping, id);
  return buffer;
}

napi_value Unmap(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  uint64_t id = 0;
  if (!call.Read(0, &slot) || !call.Read(0, HandleKind::kDmaBuf, Identity::kUnasked, &handle) ||
      !call.Read(1, &id))
    return nullptr;
  const Result<void> unmapped = call.addon().handles->Unmap(slot, id);
  if (!unmapped) call.Fail(unmapped.error());
  return nullptr;
}

napi_value IsMapped(Call& call) {
  Handle* handle = nullptr;
  uint64_t id = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kUnasked, &handle) || !call.Read(1, &id)) return nullptr;
  return call.Boolean(handle->mappings.count(id) > 0);
}

napi_value AdjustExternalMemory(Call& call) {
  int64_t bytes = 0;
  int64_t all = 0;
  napi_get_value_int64(call.env(), call.argument(0), &bytes);
  napi_adjust_external_memory(call.env(), bytes, &all);
  return nullptr;
}

napi_value MappingLimits(Call& call) {
  const os::MappingLimits limits = os::LimitsOfMappings();
  AddonData& addon = call.addon();
  addon.Leave(Register::kMappings, limits.mappings);
  addon.Leave(Register::kMostMappings, limits.most_mappings);
  addon.Leave(Register::kKeptFree, limits.kept_free);
  addon.Leave(Register::kAddressSpace, limits.address_space);
  addon.Leave(Register::kMostAddressSpace, limits.most_address_space);
  return nullptr;
}

napi_value MapWhole(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  if (!call.Read(0, &slot) || !call.Read(0, HandleKind::kDmaBuf, Identity::kAsked, &handle)) {
    return nullptr;
  }
  if (IsLost(*handle)) return call.Fail("ERR_DMABUF_LOST"), nullptr;
  // The ArrayBuffer was transferred away. What shows the old range now reads zeros, as after unmap; map anew.
  if (handle->whole && handle->whole->exposed) {
    const Result<void> released = ReleaseMapping(*handle->whole);
    if (!released) return call.Fail(released.error()), nullptr;
    handle->whole.reset();
  }
  const SharedMapping* mapping = WholeMapping(call, *handle);
  if (mapping == nullptr) return nullptr;
  // A write to a read-only page would kill the process, and JavaScript has no read-only bytes.
  if (!mapping->mapping->writable()) return call.Fail(SystemError{EACCES, "mmap"}), nullptr;
  return Expose(call, handle->whole, slot, 0);
}

napi_value Read(Call& call) {
  Handle* handle = nullptr;
  uint8_t* target = nullptr;
  size_t capacity = 0;
  uint64_t position = 0;
  uint64_t length = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kAsked, &handle) || !call.Read(1, &target, &capacity) ||
      !call.Read(2, &position) || !call.Read(3, &length)) {
    return nullptr;
  }
  if (length > capacity || !InRange(*handle, position, length))
    return call.Fail(SystemError{ERANGE, "read"}), nullptr;
  const SharedMapping* mapping = WholeMapping(call, *handle);
  if (mapping == nullptr) return nullptr;
  if (length == 0) target = mapping->mapping->address();  // an empty array has no address
  const uint8_t* source = mapping->mapping->address() + position;
  return CopyUnderAccess(call, *handle, os::CpuAccess::kRead, [=] { std::memmove(target, source, length); });
}

napi_value Write(Call& call) {
  Handle* handle = nullptr;
  uint8_t* source = nullptr;
  size_t length = 0;
  uint64_t position = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kAsked, &handle) || !call.Read(1, &source, &length) ||
      !call.Read(2, &position)) {
    return nullptr;
  }
  if (!InRange(*handle, position, length)) return call.Fail(SystemError{ERANGE, "write"}), nullptr;
  const SharedMapping* mapping = WholeMapping(call, *handle);
  if (mapping == nullptr) return nullptr;
  if (!mapping->mapping->writable()) return call.Fail(SystemError{EACCES, "mmap"}), nullptr;
  if (length == 0) source = mapping->mapping->address();  // an empty array has no address
  uint8_t* target = mapping->mapping->address() + position;
  return CopyUnderAccess(call, *handle, os::CpuAccess::kWrite, [=] { std::memmove(target, source, length); });
}

}  // namespace

const Exports kMappingFunctions = {
    {"map", Entry<Map, 4>},           {"unmap", Entry<Unmap, 2>},
    {"isMapped", Entry<IsMapped, 2>}, {"mappingLimits", Entry<MappingLimits, 0>},
    {"mapWhole", Entry<MapWhole, 1>}, {"read", Entry<Read, 4>},
    {"write", Entry<Write, 3>},       {"adjustExternalMemory", Entry<AdjustExternalMemory, 1>},
};

}  // namespace dmabuf::js
