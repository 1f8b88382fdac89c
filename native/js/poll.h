#pragma once

#include <memory>
#include <unordered_map>

#include "js/napi_setup.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf {

// Waits of one environment for descriptors to become ready, on the environment's own event loop. A pending
// wait keeps the loop alive. Used on the environment's thread only.
class Polls {
 public:
  explicit Polls(napi_env env);
  Polls(const Polls&) = delete;
  Polls(Polls&&) = delete;
  Polls& operator=(const Polls&) = delete;
  Polls& operator=(Polls&&) = delete;
  ~Polls();

  // Calls `done(errno)` once when `event`, POLLIN or POLLOUT, holds: 0, or a negative errno. Takes the
  // descriptor: it must be the wait's own. Returns the wait's number, for Cancel().
  Result<uint32_t> Start(UniqueFd fd, short event, napi_value done);
  // Ends a wait without calling back. Does nothing when it is over.
  void Cancel(uint32_t id);

 private:
  struct Wait;

  static void OnCleanup(napi_async_cleanup_hook_handle hook, void* data);
  void Close(Wait* wait);
  void Closed(uint32_t id);

  napi_env env_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::unordered_map<uint32_t, Wait*> waits_;  // until closed by the loop
  uint32_t last_id_ = 0;
  bool ending_ = false;
};

}  // namespace dmabuf
