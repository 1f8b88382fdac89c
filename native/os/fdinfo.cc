#include "os/fdinfo.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "os/file.h"
#include "os/parse.h"

namespace dmabuf::os {
namespace {

bool ParseNumber(std::string_view text, int base, uint64_t* value) {
  const std::optional<uint64_t> number = TakeNumber(&text, base);
  if (!number || !text.empty() || *number > kMaxFigure) return false;
  *value = *number;
  return true;
}

// Splits "<key>:\t<value>\n". The kernel prints size and count with %zu and %ld after one tab, and ino and
// flags in the same way.
bool TakeLine(std::string_view* rest, std::string_view* key, std::string_view* value) {
  const size_t end = rest->find('\n');
  if (end == std::string_view::npos) return false;
  const std::string_view line = rest->substr(0, end);
  rest->remove_prefix(end + 1);
  const size_t colon = line.find(":\t");
  *key = line.substr(0, colon);
  *value = colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 2);
  return true;
}

}  // namespace

std::optional<FdInfo> ParseFdInfo(std::string_view text) {
  constexpr std::string_view kNameKey = "name:\t";
  FdInfo info;
  bool has_size = false;
  bool has_references = false;
  bool has_exporter = false;
  // The first value of a key is the kernel's. The name comes last, holds any byte but NUL and is printed
  // unescaped, so everything after its key, up to the final newline, is the name and is never parsed.
  std::string_view rest = text;
  while (!rest.empty()) {
    if (rest.substr(0, kNameKey.size()) == kNameKey) {
      std::string_view name = rest.substr(kNameKey.size());
      if (name.empty() || name.back() != '\n') return std::nullopt;
      name.remove_suffix(1);
      info.name = name;
      break;
    }
    std::string_view key;
    std::string_view value;
    if (!TakeLine(&rest, &key, &value)) return std::nullopt;
    if (key == "size" && !has_size) {
      if (!(has_size = ParseNumber(value, 10, &info.size))) return std::nullopt;
    } else if (key == "count" && !has_references) {
      if (!(has_references = ParseNumber(value, 10, &info.references))) return std::nullopt;
    } else if (key == "exp_name" && !has_exporter) {
      has_exporter = true;
      info.exporter = value;
    } else if (key == "ino" && info.inode == 0) {
      if (!ParseNumber(value, 10, &info.inode)) return std::nullopt;
    } else if (key == "flags" && info.flags == 0) {
      if (!ParseNumber(value, 8, &info.flags)) return std::nullopt;
    }
  }
  if (!has_size || !has_references || !has_exporter) return std::nullopt;
  return info;
}

// "pos:\t0\nflags:\t0..."
bool IsPath(std::string_view fdinfo) {
  constexpr std::string_view kFlags = "\nflags:\t";
  const size_t at = fdinfo.find(kFlags);
  if (at == std::string_view::npos) return false;
  std::string_view flags = fdinfo.substr(at + kFlags.size());
  return (TakeNumber(&flags, 8).value_or(0) & O_PATH) != 0;
}

FdInfoPath PathOfFdInfo(int pid, int fd) {
  FdInfoPath path;
  if (pid == 0) {
    std::snprintf(path.text, sizeof path.text, "/proc/self/fdinfo/%d", fd);
  } else {
    std::snprintf(path.text, sizeof path.text, "/proc/%d/fdinfo/%d", pid, fd);
  }
  return path;
}

Result<bool> MayBeDmaBuf(int pid, int fd) {
  char path[64];
  if (pid == 0) {
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  } else {
    std::snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
  }
  char target[32];
  const ssize_t length = ::readlink(path, target, sizeof target);
  if (length < 0) return SystemError{errno, "readlink"};
  const std::string_view name(target, static_cast<size_t>(length));
  return name.substr(0, 8) == "/dmabuf:" || name == "anon_inode:dmabuf";
}

Result<std::string_view> ReadFdInfo(int file, FdInfoText* text) {
  const Result<size_t> first = ReadAll(file, text->bytes, sizeof text->bytes);
  if (!first) return first.error();
  if (*first < sizeof text->bytes) return std::string_view(text->bytes, *first);
  text->more.assign(text->bytes, *first);
  size_t length = *first;
  while (length == text->more.size()) {
    text->more.resize(2 * length);
    const Result<size_t> count = ReadAll(file, text->more.data() + length, text->more.size() - length);
    if (!count) return count.error();
    length += *count;
  }
  return std::string_view(text->more.data(), length);
}

Result<std::string_view> ReadFdInfo(const FdInfoPath& path, FdInfoText* text) {
  const Result<UniqueFd> file = OpenForReading(path.text);
  if (!file) return file.error();
  return ReadFdInfo(file->get(), text);
}

}  // namespace dmabuf::os
