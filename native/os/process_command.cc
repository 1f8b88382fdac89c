#include "os/process_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstring>

#include "os/file.h"
#include "os/unique_fd.h"

namespace dmabuf::os {
namespace {

// The text of the link, without the folders of a path.
std::string ProgramOf(int process) {
  char text[PATH_MAX];
  const ssize_t length = ::readlinkat(process, "exe", text, sizeof text);
  if (length <= 0) return {};
  std::string_view path(text, static_cast<size_t>(length));
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.size() > kDeleted.size() && path.substr(path.size() - kDeleted.size()) == kDeleted) {
    path.remove_suffix(kDeleted.size());
  }
  return std::string(path.substr(path.rfind('/') + 1));
}

// By argv[0], which every user may read. It is in the memory of the process, for whose locks this may have
// to wait.
std::string ProgramInMemoryOf(int process) {
  const Result<UniqueFd> file = OpenAt(process, "cmdline");
  if (!file) return {};
  char text[PATH_MAX];
  const Result<size_t> length = ReadAll(file->get(), text, sizeof text);
  const std::string program(text, length ? strnlen(text, *length) : 0);
  return program.substr(program.rfind('/') + 1);
}

}  // namespace

std::string CommandOf(int process, std::string_view vague_command) {
  const Result<UniqueFd> file = OpenAt(process, "comm");
  if (!file) return {};
  char text[64];
  const Result<size_t> length = ReadAll(file->get(), text, sizeof text);
  if (!length || *length == 0) return {};
  std::string command(text, text[*length - 1] == '\n' ? *length - 1 : *length);
  if (command == vague_command) {
    std::string program = ProgramOf(process);
    if (!program.empty()) return program;
  }
  return command;
}

void ReadCommands(Survey* survey, std::string_view vague_command) {
  for (Survey::Process& process : survey->processes) {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%d", process.pid);
    const Result<UniqueFd> folder = OpenAt(AT_FDCWD, path, O_PATH | O_DIRECTORY);
    if (!folder) continue;
    process.command = CommandOf(folder->get(), vague_command);
    if (process.command != vague_command) continue;
    std::string program = ProgramInMemoryOf(folder->get());
    if (!program.empty()) process.command = std::move(program);
  }
}

}  // namespace dmabuf::os
