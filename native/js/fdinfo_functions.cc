#include "js/functions.h"
#include "os/descriptor_look.h"
#include "os/fdinfo.h"

namespace dmabuf::js {
namespace {

// The numbers go to the registers, the strings into an array; the library makes the object of them.
napi_value ToJs(Call& call, const os::FdInfo& info) {
  AddonData& addon = call.addon();
  addon.Leave(Register::kInode, info.inode);
  addon.Leave(Register::kSize, info.size);
  addon.Leave(Register::kReferences, info.references);
  addon.Leave(Register::kFlags, info.flags);
  napi_value strings = nullptr;
  napi_create_array(call.env(), &strings);
  napi_set_element(call.env(), strings, 0, call.Text(info.exporter));
  if (info.name) napi_set_element(call.env(), strings, 1, call.Text(*info.name));
  return strings;
}

napi_value Info(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kUnasked, &handle)) return nullptr;
  os::FdInfoText buffer;
  const os::FdInfoPath path = os::PathOfFdInfo(0, handle->fd.get());
  const Result<std::string_view> text = os::ReadFdInfo(path, &buffer);
  // No such entry: other code has closed the descriptor. fstat reports this in the usual way.
  if (!text) {
    if (call.CheckIdentity(*handle)) call.Fail(text.error(), path.text);
    return nullptr;
  }
  const std::optional<os::FdInfo> info = os::ParseFdInfo(*text);
  // The text shows the identity if it has the inode; before Linux 5.15, fstat is needed.
  const bool same = info && info->inode == handle->identity.inode;
  if (!same && !call.CheckIdentity(*handle)) return nullptr;
  if (!info) return call.Fail("ERR_DMABUF_UNSUPPORTED_KERNEL"), nullptr;
  return ToJs(call, *info);
}

napi_value ParseFdInfo(Call& call) {
  uint8_t* text = nullptr;
  size_t length = 0;
  if (!call.Read(0, &text, &length)) return nullptr;
  const std::optional<os::FdInfo> info = os::ParseFdInfo({reinterpret_cast<const char*>(text), length});
  return info ? ToJs(call, *info) : nullptr;
}

napi_value ReadFdInfo(Call& call) {
  int32_t pid = 0;
  int32_t fd = 0;
  if (!call.Read(0, &pid) || !call.Read(1, &fd)) return nullptr;
  const Result<std::string> text = os::ReadFdInfo(pid, fd);
  if (!text) return call.Fail(text.error(), os::PathOfFdInfo(pid, fd).text), nullptr;
  const std::optional<os::FdInfo> info = os::ParseFdInfo(*text);
  return info ? ToJs(call, *info) : nullptr;
}

}  // namespace

const Exports kFdinfoFunctions = {
    {"info", Entry<Info, 1>},
    {"parseFdInfo", Entry<ParseFdInfo, 1>},
    {"readFdInfo", Entry<ReadFdInfo, 2>},
};

}  // namespace dmabuf::js
