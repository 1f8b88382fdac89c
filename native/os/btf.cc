#include "os/btf.h"

#include <linux/btf.h>

#include <cerrno>
#include <cstring>

#include "os/file.h"

namespace dmabuf::os {
namespace {

// Linux 7.2 has widened both fields; the bits were unused before.
uint32_t KindOf(uint32_t info) { return info >> 24 & 0x7f; }
uint32_t CountOf(uint32_t info) { return info & 0xffffff; }

// Kinds that <linux/btf.h> of older kernels lacks.
enum : uint32_t { kFloat = 16, kDeclTag = 17, kTypeTag = 18, kEnum64 = 19 };

// What follows the 12 bytes that every type has, or -1.
int64_t TrailerOf(uint32_t kind, uint32_t count) {
  switch (kind) {
    case BTF_KIND_PTR:
    case BTF_KIND_FWD:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case kFloat:
    case kTypeTag:
      return 0;
    case BTF_KIND_INT:
    case BTF_KIND_VAR:
    case kDeclTag:
      return 4;
    case BTF_KIND_ARRAY:
      return 12;
    case BTF_KIND_ENUM:
    case BTF_KIND_FUNC_PROTO:
      return int64_t{8} * count;
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_DATASEC:
    case kEnum64:
      return int64_t{12} * count;
    default:
      return -1;
  }
}

constexpr SystemError kNotUnderstood{EPROTO, "/sys/kernel/btf/vmlinux"};

// The lengths of kinds that a file may have and this library may not know: <linux/btf.h> of Linux 7.2.
struct Layout {
  uint8_t of_type;
  uint8_t of_each;
  uint16_t flags;
};
static_assert(sizeof(Layout) == 4);

// At the position that the header states, after the part that every header has.
struct LayoutSection {
  uint32_t offset;
  uint32_t length;
};

std::string_view LayoutIn(std::string_view all, const btf_header& header) {
  constexpr size_t kStart = 24;
  LayoutSection section;
  if (header.hdr_len < kStart + sizeof section || header.hdr_len > all.size()) return {};
  std::memcpy(&section, all.data() + kStart, sizeof section);
  const uint64_t start = uint64_t{header.hdr_len} + section.offset;
  if (start + section.length > all.size()) return {};
  return all.substr(start, section.length);
}

// The same as TrailerOf(), according to the file itself.
int64_t TrailerBy(std::string_view layouts, uint32_t kind, uint32_t count) {
  Layout layout;
  if ((kind + size_t{1}) * sizeof layout > layouts.size()) return -1;
  std::memcpy(&layout, layouts.data() + kind * sizeof layout, sizeof layout);
  return layout.of_type + int64_t{layout.of_each} * count;
}

}  // namespace

Result<Btf> Btf::Load() {
  const Result<UniqueFd> file = OpenForReading("/sys/kernel/btf/vmlinux");
  if (!file) return file.error();
  const Result<FileStatus> status = StatusOf(file->get());
  if (!status) return status.error();
  Btf btf;
  btf.data_ = std::make_unique<char[]>(status->size);
  // Not mapped: Linux 6.12 cannot.
  const Result<size_t> length = ReadAll(file->get(), btf.data_.get(), status->size);
  if (!length) return length.error();
  btf.length_ = *length;
  const Result<void> indexed = btf.Index();
  if (!indexed) return indexed.error();
  return btf;
}

Result<void> Btf::Index() {
  btf_header header;
  if (length_ < sizeof header) return kNotUnderstood;
  std::memcpy(&header, data_.get(), sizeof header);
  const std::string_view all(data_.get(), length_);
  const uint64_t types_start = uint64_t{header.hdr_len} + header.type_off;
  const uint64_t strings_start = uint64_t{header.hdr_len} + header.str_off;
  if (header.magic != BTF_MAGIC || types_start + header.type_len > length_ ||
      strings_start + header.str_len > length_) {
    return kNotUnderstood;
  }
  types_ = all.substr(types_start, header.type_len);
  strings_ = all.substr(strings_start, header.str_len);
  if (strings_.empty() || strings_.back() != '\0') return kNotUnderstood;

  const std::string_view layouts = LayoutIn(all, header);
  offsets_.reserve(types_.size() / 24);
  offsets_.push_back(0);  // void
  for (size_t at = 0; at + sizeof(Type) <= types_.size();) {
    Type type;
    std::memcpy(&type, types_.data() + at, sizeof type);
    const uint32_t kind = KindOf(type.info);
    int64_t trailer = TrailerOf(kind, CountOf(type.info));
    if (trailer < 0) trailer = TrailerBy(layouts, kind, CountOf(type.info));
    const size_t next = at + sizeof type + static_cast<size_t>(trailer);
    if (trailer < 0 || next > types_.size()) return kNotUnderstood;
    offsets_.push_back(static_cast<uint32_t>(at));
    at = next;
  }
  return {};
}

const Btf::Type* Btf::At(uint32_t type) const {
  if (type == 0 || type >= offsets_.size()) return nullptr;
  return reinterpret_cast<const Type*>(types_.data() + offsets_[type]);
}

bool Btf::HasName(uint32_t name, std::string_view wanted) const {
  // The strings end with a NUL, so that the byte after a name that fits is also among them.
  return name < strings_.size() && wanted.size() < strings_.size() - name &&
         strings_.compare(name, wanted.size(), wanted) == 0 && strings_[name + wanted.size()] == '\0';
}

std::optional<uint32_t> Btf::FindByName(uint32_t kind, std::string_view name) const {
  for (uint32_t id = 1; id < offsets_.size(); id++) {
    const Type* type = At(id);
    if (KindOf(type->info) == kind && HasName(type->name, name)) return id;
  }
  return std::nullopt;
}

std::optional<uint32_t> Btf::FindFunction(std::string_view name) const {
  return FindByName(BTF_KIND_FUNC, name);
}

std::optional<uint32_t> Btf::FindStruct(std::string_view name) const {
  return FindByName(BTF_KIND_STRUCT, name);
}

uint32_t Btf::Target(uint32_t id) const {
  bool followed_pointer = false;
  for (;;) {
    const Type* type = At(id);
    if (type == nullptr) return 0;
    switch (KindOf(type->info)) {
      case BTF_KIND_PTR:
        if (followed_pointer) return id;
        followed_pointer = true;
        break;
      case BTF_KIND_TYPEDEF:
      case BTF_KIND_VOLATILE:
      case BTF_KIND_CONST:
      case BTF_KIND_RESTRICT:
      case kTypeTag:
        break;
      default:
        return id;
    }
    id = type->size_or_type;
  }
}

std::optional<uint32_t> Btf::ParameterOf(uint32_t function, std::string_view name) const {
  const Type* type = At(function);
  const Type* prototype = type == nullptr ? nullptr : At(type->size_or_type);
  if (prototype == nullptr || KindOf(prototype->info) != BTF_KIND_FUNC_PROTO) return std::nullopt;
  const auto* parameters = reinterpret_cast<const btf_param*>(prototype + 1);
  for (uint32_t index = 0; index < CountOf(prototype->info); index++) {
    if (HasName(parameters[index].name_off, name)) return Target(parameters[index].type);
  }
  return std::nullopt;
}

std::optional<uint32_t> Btf::FindMember(uint32_t structure, std::string_view name, uint32_t* found) const {
  const Type* type = At(structure);
  if (type == nullptr) return std::nullopt;
  const uint32_t kind = KindOf(type->info);
  if (kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION) return std::nullopt;
  const bool has_bit_fields = type->info >> 31 != 0;
  const auto* members = reinterpret_cast<const Member*>(type + 1);
  for (uint32_t index = 0; index < CountOf(type->info); index++) {
    const Member& member = members[index];
    const uint32_t offset = (has_bit_fields ? member.offset & 0xffffff : member.offset) / 8;
    if (member.name != 0) {
      if (!HasName(member.name, name)) continue;
      *found = member.type;
      return offset;
    }
    const std::optional<uint32_t> inner = FindMember(member.type, name, found);
    if (inner) return offset + *inner;
  }
  return std::nullopt;
}

std::optional<uint32_t> Btf::FindMember(uint32_t structure,
                                        std::initializer_list<std::string_view> path) const {
  uint32_t offset = 0;
  for (const std::string_view name : path) {
    uint32_t type = 0;
    const std::optional<uint32_t> inner = FindMember(structure, name, &type);
    if (!inner) return std::nullopt;
    offset += *inner;
    structure = Target(type);
  }
  return offset;
}

}  // namespace dmabuf::os
