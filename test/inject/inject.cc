// Makes chosen system calls of the dmabuf addon fail, and of no other code in the process: the addresses in
// the addon's own global offset table, through which it calls the C library and libuv, are replaced by the
// functions of wrappers.cc. This needs no rights and works on any kernel. The calls of Node, libuv and the
// C++ library are not affected.
//
// Alternatively the kernel fails: a kernel with CONFIG_FAULT_INJECTION is told to refuse the n-th allocation
// that the calling thread makes, and the call is then really made.

#include <dirent.h>
#include <elf.h>
#include <link.h>
#include <node_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <vector>

#include "order.h"
#include "wrappers.h"

namespace inject {
namespace {

struct Search {
  std::string path;
  bool found = false;
  std::vector<std::string> others;  // what the addon imports and no wrapper stands for
};

void Replace(Search* search, const dl_phdr_info* object, const ElfW(Rela) & entry, const ElfW(Sym) * symbols,
             const char* names) {
  const auto index = ELF64_R_SYM(entry.r_info);
  if (index == 0) return;
  const char* name = names + symbols[index].st_name;
  if (symbols[index].st_shndx != SHN_UNDEF) return;
  const Wrapper* wrapper = FindWrapper(name);
  if (wrapper == nullptr) {
    search->others.emplace_back(name);
    return;
  }
  auto* slot = reinterpret_cast<void**>(object->dlpi_addr + entry.r_offset);
  if (*slot == wrapper->replacement) return;
  const auto page = static_cast<uintptr_t>(getpagesize());
  auto* start = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(slot) & ~(page - 1));
  // Read-only since the linker was done with it (-z relro).
  if (mprotect(start, page, PROT_READ | PROT_WRITE) != 0) return;
  *wrapper->real = *slot;
  *slot = wrapper->replacement;
  mprotect(start, page, PROT_READ);
}

int Visit(dl_phdr_info* object, size_t /*size*/, void* data) {
  auto* search = static_cast<Search*>(data);
  if (object->dlpi_name == nullptr || search->path != object->dlpi_name) return 0;
  search->found = true;
  const ElfW(Dyn)* dynamic = nullptr;
  for (int index = 0; index < object->dlpi_phnum; index++) {
    const ElfW(Phdr) & header = object->dlpi_phdr[index];
    if (header.p_type == PT_DYNAMIC)
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(object->dlpi_addr + header.p_vaddr);
  }
  const ElfW(Rela) * tables[2] = {nullptr, nullptr};
  size_t sizes[2] = {0, 0};
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; dynamic++) {
    // glibc has made addresses of these offsets, musl has not.
    const uintptr_t value = dynamic->d_un.d_ptr;
    const uintptr_t address = value < object->dlpi_addr ? object->dlpi_addr + value : value;
    if (dynamic->d_tag == DT_JMPREL) tables[0] = reinterpret_cast<const ElfW(Rela)*>(address);
    if (dynamic->d_tag == DT_RELA) tables[1] = reinterpret_cast<const ElfW(Rela)*>(address);
    if (dynamic->d_tag == DT_PLTRELSZ) sizes[0] = dynamic->d_un.d_val;
    if (dynamic->d_tag == DT_RELASZ) sizes[1] = dynamic->d_un.d_val;
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(address);
    if (dynamic->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(address);
  }
  for (size_t table = 0; table < 2; table++) {
    for (size_t index = 0; tables[table] != nullptr && index < sizes[table] / sizeof(ElfW(Rela)); index++) {
      Replace(search, object, tables[table][index], symbols, names);
    }
  }
  return 1;
}

std::string TextArgument(napi_env env, napi_value value) {
  char text[4096];
  size_t length = 0;
  napi_get_value_string_utf8(env, value, text, sizeof text, &length);
  return {text, length};
}

double NumberArgument(napi_env env, napi_value value) {
  double number = 0;
  napi_get_value_double(env, value, &number);
  return number;
}

// intercept(path of the addon, which is loaded) => the names that it imports and that are not intercepted
napi_value Intercept(napi_env env, napi_callback_info info) {
  napi_value arguments[1];
  size_t count = 1;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Search search;
  search.path = TextArgument(env, arguments[0]);
  dl_iterate_phdr(Visit, &search);
  if (!search.found) {
    napi_throw_error(env, nullptr, "the addon is not loaded from there");
    return nullptr;
  }
  napi_value result = nullptr;
  napi_create_array(env, &result);
  for (size_t index = 0; index < search.others.size(); index++) {
    napi_value name = nullptr;
    napi_create_string_utf8(env, search.others[index].c_str(), NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, result, static_cast<uint32_t>(index), name);
  }
  return result;
}

// start(function?, detail, first, times, errno, allocation): counts calls from now on, and lets those fail
napi_value Start(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  size_t count = 6;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.order = {};
  if (count == 6) {
    state.order.function = TextArgument(env, arguments[0]);
    state.order.detail = static_cast<uint64_t>(NumberArgument(env, arguments[1]));
    state.order.first = static_cast<uint32_t>(NumberArgument(env, arguments[2]));
    state.order.times = static_cast<uint32_t>(NumberArgument(env, arguments[3]));
    state.order.error = static_cast<int>(NumberArgument(env, arguments[4]));
    state.order.allocation = static_cast<uint32_t>(NumberArgument(env, arguments[5]));
  }
  state.hits = 0;
  state.outcome = kUnasked;
  state.kind_count = 0;
  state.counting = true;
  return nullptr;
}

// stop() => how many calls have failed; none do from now on
napi_value Stop(napi_env env, napi_callback_info /*info*/) {
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.counting = false;
  state.order.times = 0;
  napi_value result = nullptr;
  napi_create_uint32(env, state.hits, &result);
  return result;
}

// outcome() => what came of the kernel's failure: the call's errno, 0, or -1 where none was asked for
napi_value Outcome(napi_env env, napi_callback_info /*info*/) {
  const std::lock_guard<std::mutex> lock(state.mutex);
  napi_value result = nullptr;
  napi_create_int32(env, state.outcome, &result);
  return result;
}

// counts() => function, detail, count, function, …
napi_value Counts(napi_env env, napi_callback_info /*info*/) {
  const std::lock_guard<std::mutex> lock(state.mutex);
  napi_value result = nullptr;
  napi_create_array(env, &result);
  uint32_t at = 0;
  for (size_t index = 0; index < state.kind_count; index++) {
    napi_value value = nullptr;
    napi_create_string_utf8(env, state.kinds[index].function, NAPI_AUTO_LENGTH, &value);
    napi_set_element(env, result, at++, value);
    napi_create_double(env, static_cast<double>(state.kinds[index].detail), &value);
    napi_set_element(env, result, at++, value);
    napi_create_uint32(env, state.kinds[index].count, &value);
    napi_set_element(env, result, at++, value);
  }
  return result;
}

void Append(napi_env env, napi_value list, const std::string& text) {
  uint32_t length = 0;
  napi_get_array_length(env, list, &length);
  napi_value value = nullptr;
  napi_create_string_latin1(env, text.data(), text.size(), &value);
  napi_set_element(env, list, length, value);
}

// look() => "fd target" of every descriptor, then "=range" of every mapping of a dma-buf or memfd. In C++,
// since it is done twice for each of thousands of injections, on an emulated processor.
napi_value Look(napi_env env, napi_callback_info /*info*/) {
  napi_value result = nullptr;
  napi_create_array(env, &result);
  DIR* folder = opendir("/proc/self/fd");
  for (const dirent* entry = nullptr; folder != nullptr && (entry = readdir(folder)) != nullptr;) {
    const int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(folder)) continue;
    char target[512];
    const ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target);
    if (length < 0) continue;
    std::string text(target, static_cast<size_t>(length));
    if (text.compare(0, 8, "/dmabuf:") == 0) text.resize(8);  // names may change
    Append(env, result, std::to_string(fd) + " " + text);
  }
  if (folder != nullptr) closedir(folder);
  FILE* maps = fopen("/proc/self/maps", "r");
  char* line = nullptr;
  size_t capacity = 0;
  while (maps != nullptr && getline(&line, &capacity, maps) > 0) {
    if (strstr(line, "/dmabuf:") == nullptr && strstr(line, "/memfd:dmabuf") == nullptr) continue;
    Append(env, result, "=" + std::string(line, strchr(line, ' ')));
  }
  free(line);
  if (maps != nullptr) fclose(maps);
  return result;
}

napi_value Init(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"intercept", Intercept}, {"start", Start},   {"stop", Stop},
                   {"outcome", Outcome},     {"counts", Counts}, {"look", Look}};
  for (const auto& function : functions) {
    napi_value value = nullptr;
    napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.callback, nullptr, &value);
    napi_set_named_property(env, exports, function.name, value);
  }
  return exports;
}

}  // namespace
}  // namespace inject

NAPI_MODULE(inject, inject::Init)
