#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// A BPF program, written instruction by instruction (Documentation/bpf/standardization/instruction-set.rst).
// Registers: r1 to r5 hold arguments, r0 results, r6 to r9 survive calls, r10 is the end of the stack.
class BpfProgram {
 public:
  using Register = uint8_t;
  // An instruction that jumps to where Land() is called.
  using Jump = size_t;

  void Load32(Register to, Register base, int offset) {
    Emit(BPF_LDX | BPF_MEM | BPF_W, to, base, offset, 0);
  }
  void Load64(Register to, Register base, int offset) {
    Emit(BPF_LDX | BPF_MEM | BPF_DW, to, base, offset, 0);
  }
  void Store32(Register base, int offset, Register from) {
    Emit(BPF_STX | BPF_MEM | BPF_W, base, from, offset, 0);
  }
  void Store64(Register base, int offset, Register from) {
    Emit(BPF_STX | BPF_MEM | BPF_DW, base, from, offset, 0);
  }
  void StoreValue32(Register base, int offset, int32_t value) {
    Emit(BPF_ST | BPF_MEM | BPF_W, base, 0, offset, value);
  }
  void StoreZero64(Register base, int offset) { Emit(BPF_ST | BPF_MEM | BPF_DW, base, 0, offset, 0); }
  void Move(Register to, Register from) { Emit(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
  void Set(Register to, int32_t value) { Emit(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
  void Add(Register to, int32_t value) { Emit(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value); }
  // The address of the stack at `offset`, which is negative.
  void PointToStack(Register to, int offset) {
    Move(to, BPF_REG_10);
    Add(to, offset);
  }
  Jump JumpIfZero(Register value) { return Emit(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0, 0); }
  Jump JumpIfNot(Register value, int32_t other) {
    return Emit(BPF_JMP | BPF_JNE | BPF_K, value, 0, 0, other);
  }
  Jump JumpIfSame(Register first, Register second) {
    return Emit(BPF_JMP | BPF_JEQ | BPF_X, first, second, 0, 0);
  }
  void Land(Jump jump) { instructions_[jump].off = static_cast<int16_t>(instructions_.size() - jump - 1); }
  void CallHelper(int32_t helper) { Emit(BPF_JMP | BPF_CALL, 0, 0, 0, helper); }
  void Exit() { Emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

  [[nodiscard]] const std::vector<bpf_insn>& instructions() const { return instructions_; }

 private:
  Jump Emit(int code, Register to, Register from, int offset, int32_t value);

  std::vector<bpf_insn> instructions_;
};

// BPF_PROG_LOAD and BPF_LINK_CREATE (bpf(2)) of an iterator (Linux 5.8) that calls the kernel's function with
// this number in its BTF. The link keeps the program.
Result<UniqueFd> LinkIterator(const BpfProgram& program, uint32_t function);
// BPF_ITER_CREATE: a descriptor to read what the program writes.
Result<UniqueFd> OpenIterator(int link);
// BPF_OBJ_PIN with BPF_F_PATH_FD (Linux 6.5, older than any iterator over dma-bufs): a file of this name in a
// folder of a BPF file system, for its owner alone, that is read afresh each time it is opened.
Result<void> PinLink(int link, int folder, const char* name);

}  // namespace dmabuf::os
