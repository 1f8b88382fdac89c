#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "os/result.h"

namespace dmabuf::os {

// The types of the running kernel, as /sys/kernel/btf/vmlinux describes them
// (Documentation/bpf/btf.rst; Linux 5.4). Type numbers are the file's own; 0 is void.
class Btf {
 public:
  // ENOENT if the kernel was built without CONFIG_DEBUG_INFO_BTF, EPROTO if the file is not understood.
  static Result<Btf> Load();

  // The function with this name.
  [[nodiscard]] std::optional<uint32_t> FindFunction(std::string_view name) const;
  [[nodiscard]] std::optional<uint32_t> FindStruct(std::string_view name) const;
  // What the parameter of a function points to.
  [[nodiscard]] std::optional<uint32_t> ParameterOf(uint32_t function, std::string_view name) const;
  // Where a member is, in bytes from the start of the structure, and in `type` what it is. Members of
  // anonymous structures and unions count as the structure's own.
  [[nodiscard]] std::optional<uint32_t> FindMember(uint32_t structure, std::string_view name,
                                                   uint32_t* type) const;
  // The same for a member of a member of ... that is not a pointer.
  [[nodiscard]] std::optional<uint32_t> FindMember(uint32_t structure,
                                                   std::initializer_list<std::string_view> path) const;
  // What a pointer points to, or the type itself; without its modifiers.
  [[nodiscard]] uint32_t Target(uint32_t type) const;

 private:
  // struct btf_type of the kernel, with the fields that all kinds have.
  struct Type {
    uint32_t name;
    uint32_t info;
    uint32_t size_or_type;
  };
  struct Member {
    uint32_t name;
    uint32_t type;
    uint32_t offset;  // in bits
  };

  Result<void> Index();
  [[nodiscard]] std::optional<uint32_t> FindByName(uint32_t kind, std::string_view name) const;
  [[nodiscard]] const Type* At(uint32_t type) const;
  [[nodiscard]] bool HasName(uint32_t name, std::string_view wanted) const;

  std::unique_ptr<char[]> data_;
  size_t length_ = 0;
  std::string_view strings_;
  std::string_view types_;
  std::vector<uint32_t> offsets_;  // of every type in `types_`
};

}  // namespace dmabuf::os
