#include "os/bpf.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace dmabuf::os {
namespace {

// Kernels read as many bytes as they know, and require the rest to be zero.
template <typename Attributes>
long Bpf(int command, const Attributes& attributes) {
  long result;
  int tries = 0;
  do {
    result = ::syscall(SYS_bpf, command, &attributes, sizeof attributes);
    // EAGAIN: a signal has interrupted the verifier.
  } while (result < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 5)));
  return result;
}

// What BPF_OBJ_PIN takes, in full: <linux/bpf.h> before 6.5 lacks the folder.
struct ObjectAttributes {
  uint64_t pathname;
  uint32_t bpf_fd;
  uint32_t file_flags;
  int32_t path_fd;
  uint32_t unused;
};
constexpr uint32_t kPathFd = 1U << 14;  // BPF_F_PATH_FD

bpf_attr NoAttributes() {
  bpf_attr attributes;
  std::memset(&attributes, 0, sizeof attributes);
  return attributes;
}

}  // namespace

BpfProgram::Jump BpfProgram::Emit(int code, Register to, Register from, int offset, int32_t value) {
  bpf_insn instruction{};
  instruction.code = static_cast<uint8_t>(code);
  instruction.dst_reg = to & 0xf;
  instruction.src_reg = from & 0xf;
  instruction.off = static_cast<int16_t>(offset);
  instruction.imm = value;
  instructions_.push_back(instruction);
  return instructions_.size() - 1;
}

Result<UniqueFd> LinkIterator(const BpfProgram& program, uint32_t function) {
  bpf_attr load = NoAttributes();
  load.prog_type = BPF_PROG_TYPE_TRACING;
  load.expected_attach_type = BPF_TRACE_ITER;
  load.attach_btf_id = function;
  load.insns = reinterpret_cast<uintptr_t>(program.instructions().data());
  load.insn_cnt = static_cast<uint32_t>(program.instructions().size());
  load.license = reinterpret_cast<uintptr_t>("Dual MIT/GPL");  // the helpers are for GPL programs
  std::strncpy(load.prog_name, "dmabuf", sizeof load.prog_name);
  const UniqueFd loaded(static_cast<int>(Bpf(BPF_PROG_LOAD, load)));
  if (!loaded.valid()) return SystemError{errno, "BPF_PROG_LOAD"};

  bpf_attr link = NoAttributes();
  link.link_create.prog_fd = static_cast<uint32_t>(loaded.get());
  link.link_create.attach_type = BPF_TRACE_ITER;
  const auto linked = static_cast<int>(Bpf(BPF_LINK_CREATE, link));
  if (linked < 0) return SystemError{errno, "BPF_LINK_CREATE"};
  return UniqueFd(linked);
}

Result<UniqueFd> OpenIterator(int link) {
  bpf_attr create = NoAttributes();
  create.iter_create.link_fd = static_cast<uint32_t>(link);
  const auto iterator = static_cast<int>(Bpf(BPF_ITER_CREATE, create));
  if (iterator < 0) return SystemError{errno, "BPF_ITER_CREATE"};
  return UniqueFd(iterator);
}

Result<void> PinLink(int link, int folder, const char* name) {
  ObjectAttributes pin{};
  pin.pathname = reinterpret_cast<uintptr_t>(name);
  pin.bpf_fd = static_cast<uint32_t>(link);
  pin.file_flags = kPathFd;
  pin.path_fd = folder;
  if (Bpf(BPF_OBJ_PIN, pin) < 0) return SystemError{errno, "BPF_OBJ_PIN"};
  return {};
}

}  // namespace dmabuf::os
