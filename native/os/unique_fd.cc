#include "os/unique_fd.h"

#include <pthread.h>

#include <memory>

namespace dmabuf {
namespace {

void* CloseAll(void* argument) {
  const std::unique_ptr<std::vector<int>> fds(static_cast<std::vector<int>*>(argument));
  for (const int fd : *fds) ::close(fd);
  return nullptr;
}

}  // namespace

void CloseElsewhere(std::vector<int> fds) {
  if (fds.empty()) return;
  auto owned = std::make_unique<std::vector<int>>(std::move(fds));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  if (pthread_create(&thread, &attributes, CloseAll, owned.get()) == 0) {
    (void)owned.release();
  } else {
    CloseAll(owned.release());
  }
  pthread_attr_destroy(&attributes);
}

}  // namespace dmabuf
