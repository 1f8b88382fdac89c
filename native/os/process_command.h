#pragma once

#include <string>
#include <string_view>

#include "os/survey.h"

namespace dmabuf::os {

// The name of a process's first thread, or '' if it may not be read. `process`: its folder in procfs.
// `vague_command`: a name that does not identify the program; the name of the program's file replaces it.
std::string CommandOf(int process, std::string_view vague_command);

// Fills in the commands of the processes of a survey, if they may be read. It may have to wait for a
// process.
void ReadCommands(Survey* survey, std::string_view vague_command);

}  // namespace dmabuf::os
