#include "js/poll.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "os/file.h"

namespace dmabuf::js {

Polls::~Polls() {
  if (waker_ != nullptr) waker_->Orphan();
}

Result<void> Polls::PrepareThread() {
  if (waker_ != nullptr) return {};
  Result<os::ReadySet> set = os::ReadySet::Create();
  if (!set) return set.error();
  const Result<Waker*> waker = Waker::OnThread(env_, set->fd(), {OnReady, OnEnded, this});
  if (!waker) return waker.error();
  set_ = std::move(*set);
  waker_ = *waker;
  return {};
}

Result<void> Polls::AddToSet(uint32_t id, int fd, short event, Watch* watch) {
  const Result<void> prepared = PrepareThread();
  if (!prepared) return prepared;
  // Without a copy, the set continues to watch the file if other code closes it. This is better than not to
  // wait at all because no descriptor is left.
  Result<UniqueFd> copy = os::Duplicate(fd);
  if (!copy && copy.error().number != EMFILE && copy.error().number != ENFILE) return copy.error();
  if (copy) watch->copy = std::move(*copy);
  if (watch->copy.valid()) watch->fd = watch->copy.get();
  const Result<void> added = set_->Add(watch->fd, event, id);
  if (!added) return copy ? added.error() : copy.error();
  return {};
}

Result<uint32_t> Polls::WatchFor(uint32_t owner, int fd, short event) {
  const uint64_t key = static_cast<uint64_t>(owner) << 16 | static_cast<uint16_t>(event);
  const auto known = watch_by_key_.find(key);
  if (known != watch_by_key_.end()) return known->second;
  const uint32_t id = ++last_id_;
  Watch watch{nullptr, {}, fd, key, {}};
  if (use_thread_) {
    const Result<void> added = AddToSet(id, fd, event, &watch);
    if (!added) return added.error();
  } else {
    const Result<LoopWatch*> started = LoopWatch::Start(env_, id, fd, event, {OnLoopReady, OnEnded, this});
    if (!started) return started.error();
    watch.on_loop = *started;
  }
  watches_.emplace(id, std::move(watch));
  watch_by_key_.emplace(key, id);
  return id;
}

Result<uint32_t> Polls::Start(uint32_t owner, int fd, short event, napi_value done, bool kept) {
  if (ending_) return SystemError{ECANCELED, "epoll_ctl"};
  const Result<uint32_t> watch = WatchFor(owner, fd, event);
  if (!watch) return watch.error();
  const uint32_t id = ++last_id_;
  Wait wait{*watch, nullptr, kept};
  napi_create_reference(env_, done, 1, &wait.done);
  waits_.emplace(id, wait);
  watches_.at(*watch).waits.push_back(id);
  if (waker_ == nullptr) return id;
  if (waits_.size() == 1) waker_->KeepAlive();
  if (std::exchange(fired_, false)) waker_->Rearm();
  return id;
}

void Polls::Cancel(uint32_t id) {
  const auto entry = waits_.find(id);
  if (entry != waits_.end()) End(entry);
}

void Polls::End(std::unordered_map<uint32_t, Wait>::iterator entry) {
  const auto [id, wait] = *entry;
  napi_delete_reference(env_, wait.done);
  waits_.erase(entry);
  const auto found = watches_.find(wait.watch);
  Watch& watch = found->second;
  watch.waits.erase(std::find(watch.waits.begin(), watch.waits.end(), id));
  if (watch.waits.empty()) {
    if (watch.on_loop != nullptr) {
      watch.on_loop->Close();
    } else {
      // Other descriptors may keep the same file open, and the set would continue to watch it.
      set_->Remove(watch.fd);
    }
    watch_by_key_.erase(watch.key);
    watches_.erase(found);
  }
  RestIfIdle();
}

void Polls::RestIfIdle() {
  if (!settling_ && waits_.empty() && waker_ != nullptr) waker_->Rest();
}

void Polls::OnLoopReady(void* data, uint32_t watch, int error) {
  static_cast<Polls*>(data)->Settle({watch, error});
}

void Polls::Settle(const os::ReadySet::Event& event) {
  const auto watch = watches_.find(event.id);
  if (watch == watches_.end()) return;  // an earlier callback has ended it
  // Waits that begin meanwhile are not included.
  const std::vector<uint32_t> waits = watch->second.waits;
  for (const uint32_t id : waits) Settle(id, event.error);
}

void Polls::Settle(uint32_t id, int error) {
  const auto entry = waits_.find(id);
  if (entry == waits_.end() || ending_) return;
  napi_handle_scope scope = nullptr;
  napi_open_handle_scope(env_, &scope);
  napi_value done = nullptr;
  napi_get_reference_value(env_, entry->second.done, &done);
  if (!entry->second.kept || error != 0) End(entry);
  napi_value argument = nullptr;
  napi_value receiver = nullptr;
  napi_create_int32(env_, -error, &argument);
  napi_get_global(env_, &receiver);
  // A callback scope of its own: without one, the continuation of the promise would only run when something
  // else wakes the loop. A thread's call comes in one. It fails quietly if JavaScript may no longer run.
  const napi_status status = use_thread_
                                 ? napi_call_function(env_, receiver, done, 1, &argument, nullptr)
                                 : napi_make_callback(env_, nullptr, receiver, done, 1, &argument, nullptr);
  if (status == napi_pending_exception) {
    napi_value thrown = nullptr;
    napi_get_and_clear_last_exception(env_, &thrown);
    napi_fatal_exception(env_, thrown);
  }
  napi_close_handle_scope(env_, scope);
}

void Polls::OnReady(void* data) {
  auto* self = static_cast<Polls*>(data);
  os::ReadySet::Event events[os::ReadySet::kMostTaken];
  const size_t count = self->set_->Take(events, os::ReadySet::kMostTaken);
  self->settling_ = true;
  for (size_t index = 0; index < count && !self->ending_; index++) self->Settle(events[index]);
  self->settling_ = false;
  self->fired_ = self->waits_.empty();
  self->RestIfIdle();
  if (!self->fired_ && !self->ending_) self->waker_->Rearm();
}

void Polls::OnEnded(void* data) {
  auto* self = static_cast<Polls*>(data);
  self->ending_ = true;
  self->waker_ = nullptr;
  while (!self->waits_.empty()) self->End(self->waits_.begin());
}

}  // namespace dmabuf::js
