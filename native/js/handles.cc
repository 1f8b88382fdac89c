#include "js/handles.h"

#include <utility>

#include "os/sync_file.h"

namespace dmabuf {

Handle& Handles::Take(HandleKind kind, UniqueFd fd, uint32_t* slot) {
  if (free_.empty()) {
    *slot = static_cast<uint32_t>(handles_.size());
    handles_.emplace_back();
  } else {
    *slot = free_.back();
    free_.pop_back();
  }
  Handle& handle = handles_[*slot];
  handle.kind = kind;
  handle.lent = false;
  handle.fd = std::move(fd);
  return handle;
}

uint32_t Handles::Add(HandleKind kind, UniqueFd fd, const FileStatus& status) {
  uint32_t slot = 0;
  Handle& handle = Take(kind, std::move(fd), &slot);
  handle.identified = true;
  handle.identity = status.identity;
  handle.size = status.size;
  if (kind == HandleKind::kDmaBuf) dma_buf_device_ = status.identity.device;
  return slot;
}

uint32_t Handles::AddNewBuffer(UniqueFd fd) {
  uint32_t slot = 0;
  Handle& handle = Take(HandleKind::kDmaBuf, std::move(fd), &slot);
  handle.identified = false;
  // The first one tells the filesystem's device number, by which all later ones can be told from strangers.
  if (dma_buf_device_ == 0) (void)CheckIdentity(handle);
  return slot;
}

Result<bool> Handles::CheckIdentity(Handle& handle) {
  const Result<FileStatus> status = StatusOf(handle.fd.get());
  if (!status) return status.error();
  if (handle.identified) {
    if (!(status->identity == handle.identity)) return false;
    // All anonymous inodes are one: eventfds, epolls and sync_files differ only in what they answer.
    return handle.kind != HandleKind::kSyncFile || static_cast<bool>(SyncFileStatus(handle.fd.get()));
  }
  if (dma_buf_device_ == 0) dma_buf_device_ = status->identity.device;
  if (status->identity.device != dma_buf_device_) return false;
  handle.identified = true;
  handle.identity = status->identity;
  handle.size = status->size;
  return true;
}

// Closes what is still ours. Somebody may have closed the number behind our back and got it for another
// file; that one is left alone.
void Handles::CloseOwned(Handle& handle) {
  const Result<bool> ours = CheckIdentity(handle);
  if (ours && *ours) {
    handle.fd.Reset();
  } else {
    (void)handle.fd.release();
  }
}

void Handles::Close(napi_env env, uint32_t slot) {
  CloseOwned(handles_[slot]);
  Clear(env, slot);
}

void Handles::Abandon(napi_env env, uint32_t slot) {
  Handle& handle = handles_[slot];
  CloseOwned(handle);
  if (handle.whole && handle.whole->exposed) handle.whole.reset();
  handle.mappings.clear();
  Clear(env, slot);
}

int Handles::Release(napi_env env, uint32_t slot) {
  const int fd = handles_[slot].fd.release();
  Clear(env, slot);
  return fd;
}

void Handles::Clear(napi_env env, uint32_t slot) {
  Handle& handle = handles_[slot];
  if (handle.whole) {
    ReleaseMapping(env, *handle.whole);
    handle.whole.reset();
  }
  if (!handle.mappings.empty()) {
    for (auto& entry : handle.mappings) ReleaseMapping(env, *entry.second);
    handle.mappings.clear();
  }
  handle.kind = HandleKind::kFree;
  free_.push_back(slot);
}

void Handles::Forget(uint32_t slot, uint64_t mapping) {
  if (slot < handles_.size()) handles_[slot].mappings.erase(mapping);
}

Handles::~Handles() {
  // The environment ends: ArrayBuffers that are left unmap in their own finalizers.
  for (Handle& handle : handles_) {
    if (handle.kind != HandleKind::kFree) CloseOwned(handle);
  }
}

void ReleaseMapping(napi_env env, SharedMapping& mapping) {
  if (mapping.buffer != nullptr) {
    napi_value buffer = nullptr;
    bool detached = true;
    if (napi_get_reference_value(env, mapping.buffer, &buffer) == napi_ok && buffer != nullptr &&
        napi_is_detached_arraybuffer(env, buffer, &detached) == napi_ok && !detached) {
      napi_detach_arraybuffer(env, buffer);
    }
    napi_delete_reference(env, mapping.buffer);
    mapping.buffer = nullptr;
  }
  if (!mapping.mapping) return;
  if (mapping.exposed) {
    mapping.mapping->Retire();
  } else {
    mapping.mapping.reset();
  }
}

}  // namespace dmabuf
