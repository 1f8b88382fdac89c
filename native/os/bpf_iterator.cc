#include "os/bpf_iterator.h"

#include <cerrno>
#include <cstddef>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "os/bpf.h"
#include "os/btf.h"
#include "os/uapi.h"

namespace dmabuf::os {
namespace {

enum : int32_t { kProbeReadKernelStr = 115, kSeqWrite = 127 };

// The offsets, in the running kernel, of what the programs read. -1: missing.
struct KernelLayout {
  int64_t buffers_function = -1;
  int64_t descriptors_function = -1;
  int64_t mappings_function = -1;
  bool loses_buffers = false;
  int meta_seq = -1;
  int dmabuf_size = -1, dmabuf_file = -1, dmabuf_exporter = -1, dmabuf_name = -1, dmabuf_name_lock = -1;
  int file_inode = -1, file_references = -1;
  int inode_number = -1, inode_superblock = -1;
  int superblock_magic = -1;
  int task_tgid = -1;
  int vma_file = -1;
};

int OffsetOf(const Btf& btf, std::optional<uint32_t> type, std::initializer_list<std::string_view> path) {
  const std::optional<uint32_t> offset = type ? btf.FindMember(*type, path) : std::nullopt;
  return offset ? static_cast<int>(*offset) : -1;
}

// The structure that the member points to.
std::optional<uint32_t> PointedTo(const Btf& btf, std::optional<uint32_t> type, std::string_view member) {
  uint32_t found = 0;
  if (!type || !btf.FindMember(*type, member, &found)) return std::nullopt;
  return btf.Target(found);
}

KernelLayout LayoutOf(const Btf& btf) {
  KernelLayout layout;
  const std::optional<uint32_t> buffers = btf.FindFunction("bpf_iter_dmabuf");
  const std::optional<uint32_t> descriptors = btf.FindFunction("bpf_iter_task_file");
  const std::optional<uint32_t> mappings = btf.FindFunction("bpf_iter_task_vma");
  if (buffers) {
    layout.buffers_function = *buffers;
    layout.loses_buffers = !btf.FindStruct("dmabuf_iter_priv");
    const std::optional<uint32_t> dmabuf = btf.ParameterOf(*buffers, "dmabuf");
    layout.dmabuf_size = OffsetOf(btf, dmabuf, {"size"});
    layout.dmabuf_file = OffsetOf(btf, dmabuf, {"file"});
    layout.dmabuf_exporter = OffsetOf(btf, dmabuf, {"exp_name"});
    layout.dmabuf_name = OffsetOf(btf, dmabuf, {"name"});
    layout.dmabuf_name_lock = OffsetOf(btf, dmabuf, {"name_lock", "rlock", "raw_lock", "val", "counter"});
  }
  if (descriptors) layout.descriptors_function = *descriptors;
  if (mappings) layout.mappings_function = *mappings;

  if (!descriptors) return layout;
  layout.meta_seq = OffsetOf(btf, btf.ParameterOf(*descriptors, "meta"), {"seq"});
  const std::optional<uint32_t> file = btf.ParameterOf(*descriptors, "file");
  layout.file_inode = OffsetOf(btf, file, {"f_inode"});
  layout.file_references = OffsetOf(btf, file, {"f_ref", "refcnt", "counter"});
  const std::optional<uint32_t> inode = PointedTo(btf, file, "f_inode");
  layout.inode_number = OffsetOf(btf, inode, {"i_ino"});
  layout.inode_superblock = OffsetOf(btf, inode, {"i_sb"});
  layout.superblock_magic = OffsetOf(btf, PointedTo(btf, inode, "i_sb"), {"s_magic"});
  layout.task_tgid = OffsetOf(btf, btf.ParameterOf(*descriptors, "task"), {"tgid"});
  if (mappings) layout.vma_file = OffsetOf(btf, btf.ParameterOf(*mappings, "vma"), {"vm_file"});
  return layout;
}

// Constant for the running kernel, and megabytes to read: kept once it is known.
Result<KernelLayout> ReadLayout() {
  static std::mutex mutex;
  static std::optional<KernelLayout> known;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!known) {
    const Result<Btf> btf = Btf::Load();
    if (!btf) return btf.error();
    known = LayoutOf(*btf);
  }
  return *known;
}

constexpr BpfProgram::Register kResult = BPF_REG_0;
constexpr BpfProgram::Register kContext = BPF_REG_1;
constexpr BpfProgram::Register kFirst = BPF_REG_1, kSecond = BPF_REG_2, kThird = BPF_REG_3;
constexpr BpfProgram::Register kSeq = BPF_REG_6, kSubject = BPF_REG_7, kOther = BPF_REG_8, kKept = BPF_REG_9;
constexpr BpfProgram::Register kStack = BPF_REG_10;

// The context's members are 8 bytes each.
constexpr int Argument(int index) { return index * 8; }

void EmitEnd(BpfProgram* program, std::initializer_list<BpfProgram::Jump> jumps) {
  for (const BpfProgram::Jump jump : jumps) program->Land(jump);
  program->Set(kResult, 0);
  program->Exit();
}

void EmitWrite(BpfProgram* program, int record, int length) {
  program->Move(kFirst, kSeq);
  program->PointToStack(kSecond, record);
  program->Set(kThird, length);
  program->CallHelper(kSeqWrite);
}

void EmitSeq(BpfProgram* program, const KernelLayout& layout) {
  program->Load64(kSeq, kContext, Argument(0));
  program->Load64(kSeq, kSeq, layout.meta_seq);
}

// Called for every dma-buf, and once more with none.
BpfProgram BuffersProgram(const KernelLayout& layout) {
  constexpr int kRecord = -static_cast<int>(sizeof(BufferRecord));
  const auto at = [](size_t member) { return kRecord + static_cast<int>(member); };
  BpfProgram program;
  program.Load64(kSubject, kContext, Argument(1));
  const BpfProgram::Jump is_last = program.JumpIfZero(kSubject);
  EmitSeq(&program, layout);
  for (size_t offset = 0; offset < sizeof(BufferRecord); offset += 8) program.StoreZero64(kStack, at(offset));

  program.Load64(kSecond, kSubject, layout.dmabuf_size);
  program.Store64(kStack, at(offsetof(BufferRecord, size)), kSecond);
  program.Load64(kOther, kSubject, layout.dmabuf_file);
  // One less than the references, of which one is the iterator's.
  program.Load64(kSecond, kOther, layout.file_references);
  program.Store64(kStack, at(offsetof(BufferRecord, references)), kSecond);
  program.Load64(kOther, kOther, layout.file_inode);
  program.Load64(kSecond, kOther, layout.inode_number);
  program.Store64(kStack, at(offsetof(BufferRecord, inode)), kSecond);

  program.Load64(kThird, kSubject, layout.dmabuf_exporter);
  const BpfProgram::Jump has_no_exporter = program.JumpIfZero(kThird);
  program.PointToStack(kFirst, at(offsetof(BufferRecord, exporter)));
  program.Set(kSecond, sizeof(BufferRecord::exporter));
  program.CallHelper(kProbeReadKernelStr);
  program.Store32(kStack, at(offsetof(BufferRecord, exporter_length)), kResult);
  program.Land(has_no_exporter);

  // Another process may be replacing the name: read it again while its lock is held, or when it has changed
  // afterwards.
  std::vector<BpfProgram::Jump> done;
  for (int tries = 0; tries < 4; tries++) {
    std::vector<BpfProgram::Jump> again;
    program.StoreValue32(kStack, at(offsetof(BufferRecord, name_length)), 0);
    program.Load64(kKept, kSubject, layout.dmabuf_name);
    done.push_back(program.JumpIfZero(kKept));
    program.PointToStack(kFirst, at(offsetof(BufferRecord, name)));
    program.Set(kSecond, sizeof(BufferRecord::name));
    program.Move(kThird, kKept);
    program.CallHelper(kProbeReadKernelStr);
    program.Store32(kStack, at(offsetof(BufferRecord, name_length)), kResult);
    if (layout.dmabuf_name_lock >= 0) {
      program.Load32(kSecond, kSubject, layout.dmabuf_name_lock);
      again.push_back(program.JumpIfNot(kSecond, 0));
    }
    program.Load64(kSecond, kSubject, layout.dmabuf_name);
    done.push_back(program.JumpIfSame(kSecond, kKept));
    for (const BpfProgram::Jump jump : again) program.Land(jump);
  }
  program.StoreValue32(kStack, at(offsetof(BufferRecord, name_length)), -EAGAIN);
  for (const BpfProgram::Jump jump : done) program.Land(jump);
  EmitWrite(&program, kRecord, sizeof(BufferRecord));
  EmitEnd(&program, {is_last});
  return program;
}

// Called for every descriptor of every process, or for every mapping, and once more with none.
BpfProgram HoldersProgram(const KernelLayout& layout, BpfIterator iterator) {
  constexpr int kRecord = -static_cast<int>(sizeof(HolderRecord));
  const auto at = [](size_t member) { return kRecord + static_cast<int>(member); };
  BpfProgram program;
  program.Load64(kSubject, kContext, Argument(1));  // the task
  const BpfProgram::Jump is_last = program.JumpIfZero(kSubject);
  program.Load64(kOther, kContext, iterator == BpfIterator::kDescriptors ? Argument(3) : Argument(2));
  const BpfProgram::Jump is_nothing = program.JumpIfZero(kOther);
  std::optional<BpfProgram::Jump> has_no_file;
  if (iterator == BpfIterator::kMappings) {
    program.Load64(kOther, kOther, layout.vma_file);
    has_no_file = program.JumpIfZero(kOther);
  }
  program.Load64(kOther, kOther, layout.file_inode);
  program.Load64(kSecond, kOther, layout.inode_superblock);
  program.Load64(kSecond, kSecond, layout.superblock_magic);
  const BpfProgram::Jump is_other_file = program.JumpIfNot(kSecond, DMA_BUF_MAGIC);
  program.Load64(kSecond, kOther, layout.inode_number);
  program.Store64(kStack, at(offsetof(HolderRecord, inode)), kSecond);
  program.Load32(kSecond, kSubject, layout.task_tgid);
  program.Store64(kStack, at(offsetof(HolderRecord, pid)), kSecond);
  EmitSeq(&program, layout);
  EmitWrite(&program, kRecord, sizeof(HolderRecord));
  if (has_no_file) program.Land(*has_no_file);
  EmitEnd(&program, {is_last, is_nothing, is_other_file});
  return program;
}

bool CanReadBuffers(const KernelLayout& layout) {
  return layout.meta_seq >= 0 && layout.dmabuf_size >= 0 && layout.dmabuf_file >= 0 &&
         layout.dmabuf_exporter >= 0 && layout.dmabuf_name >= 0 && layout.file_inode >= 0 &&
         layout.file_references >= 0 && layout.inode_number >= 0;
}

bool CanReadHolders(const KernelLayout& layout) {
  return layout.meta_seq >= 0 && layout.file_inode >= 0 && layout.inode_number >= 0 &&
         layout.inode_superblock >= 0 && layout.superblock_magic >= 0 && layout.task_tgid >= 0;
}

}  // namespace

const char* PinName(BpfIterator iterator) {
  switch (iterator) {
    case BpfIterator::kBuffers:
      return "buffers";
    case BpfIterator::kDescriptors:
      return "descriptors";
    case BpfIterator::kMappings:
      return "mappings";
  }
  return nullptr;
}

Result<UniqueFd> LinkSurvey(BpfIterator iterator) {
  const Result<KernelLayout> layout = ReadLayout();
  if (!layout) return layout.error();
  if (iterator == BpfIterator::kBuffers) {
    if (layout->buffers_function < 0) return SystemError{EOPNOTSUPP, "bpf_iter_dmabuf"};
    if (layout->loses_buffers || !CanReadBuffers(*layout)) {
      return SystemError{EOPNOTSUPP, "dmabuf_iter_priv"};
    }
    return LinkIterator(BuffersProgram(*layout), static_cast<uint32_t>(layout->buffers_function));
  }
  if (!CanReadHolders(*layout)) return SystemError{EOPNOTSUPP, "bpf_iter_task_file"};
  if (iterator == BpfIterator::kDescriptors) {
    return LinkIterator(HoldersProgram(*layout, iterator),
                        static_cast<uint32_t>(layout->descriptors_function));
  }
  if (layout->mappings_function < 0 || layout->vma_file < 0) {
    return SystemError{EOPNOTSUPP, "bpf_iter_task_vma"};
  }
  return LinkIterator(HoldersProgram(*layout, iterator), static_cast<uint32_t>(layout->mappings_function));
}

}  // namespace dmabuf::os
