#include <climits>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "js/functions.h"
#include "js/job.h"
#include "os/bpf_pins.h"
#include "os/bpf_survey.h"
#include "os/file.h"
#include "os/process_scan.h"
#include "os/survey.h"

namespace dmabuf::js {
namespace {

napi_value ToJs(napi_env env, std::string_view text) {
  napi_value result = nullptr;
  napi_create_string_utf8(env, text.data(), text.size(), &result);
  return result;
}

// A Float64Array of so many rows, filled by `row(index, numbers)`.
template <size_t columns, typename Row>
napi_value Table(napi_env env, size_t rows, Row row) {
  void* data = nullptr;
  napi_value buffer = nullptr;
  napi_value array = nullptr;
  // Refused if the environment is ending: the result is not needed.
  if (napi_create_arraybuffer(env, rows * columns * sizeof(double), &data, &buffer) != napi_ok)
    return nullptr;
  auto* numbers = static_cast<double*>(data);
  for (size_t index = 0; index < rows; index++) row(index, numbers + index * columns);
  napi_create_typedarray(env, napi_float64_array, rows * columns, buffer, 0, &array);
  return array;
}

// An array of strings, with a hole where `text(index)` has nothing.
template <typename Text>
napi_value Strings(napi_env env, size_t length, Text text) {
  napi_value array = nullptr;
  napi_create_array_with_length(env, length, &array);
  for (size_t index = 0; index < length; index++) {
    const std::optional<std::string_view> value = text(index);
    if (!value) continue;
    napi_handle_scope scope = nullptr;
    napi_open_handle_scope(env, &scope);
    napi_set_element(env, array, static_cast<uint32_t>(index), ToJs(env, *value));
    napi_close_handle_scope(env, scope);
  }
  return array;
}

napi_value ToJs(napi_env env, const std::vector<std::string>& texts) {
  return Strings(env, texts.size(),
                 [&](size_t index) -> std::optional<std::string_view> { return texts[index]; });
}

// See RawSurvey in lib/native.ts.
napi_value ToJs(napi_env env, const os::Survey& survey) {
  napi_value result = nullptr;
  napi_create_object(env, &result);
  const auto set = [&](const char* name, napi_value value) {
    napi_set_named_property(env, result, name, value);
  };
  set("buffers", Table<5>(env, survey.buffers.size(), [&](size_t index, double* row) {
        const os::Survey::Buffer& buffer = survey.buffers[index];
        row[0] = static_cast<double>(buffer.inode);
        row[1] = static_cast<double>(buffer.size);
        row[2] = static_cast<double>(buffer.references);
        row[3] = buffer.exporter;
        row[4] = (buffer.size_is_lower_bound ? 1 : 0) + (buffer.is_gone ? 2 : 0);
      }));
  set("names", Strings(env, survey.buffers.size(), [&](size_t index) -> std::optional<std::string_view> {
        const os::Survey::Buffer& buffer = survey.buffers[index];
        if (buffer.name_length < 0) return std::nullopt;
        return survey.NameOf(buffer);
      }));
  set("exporters",
      Strings(env, survey.exporters.size(),
              [&](size_t index) -> std::optional<std::string_view> { return survey.exporters[index]; }));
  set("holdings", Table<4>(env, survey.holdings.size(), [&](size_t index, double* row) {
        const os::Survey::Holding& holding = survey.holdings[index];
        row[0] = holding.buffer;
        row[1] = holding.process;
        row[2] = holding.fds;
        row[3] = holding.mappings;
      }));
  set("pids", Table<1>(env, survey.processes.size(),
                       [&](size_t index, double* row) { row[0] = survey.processes[index].pid; }));
  set("commands", Strings(env, survey.processes.size(), [&](size_t index) -> std::optional<std::string_view> {
        return survey.processes[index].command;
      }));
  set("refusals", Table<3>(env, survey.refusals.size(), [&](size_t index, double* row) {
        const os::Survey::Refusal& refusal = survey.refusals[index];
        row[0] = refusal.pid;
        row[1] = -refusal.error;
        row[2] = static_cast<double>(refusal.what);
      }));
  return result;
}

// A survey of the system, which sets the path that is responsible when it fails.
using SurveyWork = std::function<Result<os::Survey>(std::string* where)>;

class SurveyJob : public Job {
 public:
  explicit SurveyJob(SurveyWork work) : work_(std::move(work)) {}

  void Run() override { outcome_.emplace(work_(&where_)); }

  void Finish(napi_env env, napi_value* first, napi_value* second) override {
    if (!*outcome_) {
      FinishWith(env, outcome_->error(), first, second);
      // No call has a space in its name.
      if (!where_.empty()) *second = ToJs(env, outcome_->error().call + (" " + where_));
      return;
    }
    *first = ToJs(env, **outcome_);
    napi_get_undefined(env, second);
  }

 private:
  SurveyWork work_;
  std::string where_;
  std::optional<Result<os::Survey>> outcome_;
};

// A file of the kernel that may be long, and takes correspondingly long to read.
class ReadJob : public Job {
 public:
  explicit ReadJob(std::string path) : path_(std::move(path)) {}

  void Run() override { outcome_.emplace(os::ReadWhole(path_.c_str())); }

  void Finish(napi_env env, napi_value* first, napi_value* second) override {
    if (!*outcome_) return FinishWith(env, outcome_->error(), first, second);
    napi_create_buffer_copy(env, (*outcome_)->size(), (*outcome_)->data(), nullptr, first);
    napi_get_undefined(env, second);
  }

 private:
  std::string path_;
  std::optional<Result<std::string>> outcome_;
};

napi_value Queue(Call& call, SurveyWork work, napi_value done) {
  QueueJob(call, "dmabuf:survey", std::make_unique<SurveyJob>(std::move(work)), done);
  return nullptr;
}

napi_value ScanProcesses(Call& call) {
  char vague_command[64];
  if (!call.Read(0, vague_command, sizeof vague_command)) return nullptr;
  const auto work = [vague = std::string(vague_command)](std::string*) { return os::ScanProcesses(vague); };
  return Queue(call, work, call.argument(1));
}

napi_value SurveyBpf(Call& call) {
  char folder[PATH_MAX];
  char vague_command[64];
  os::BpfSurveyOptions options;
  if (!call.Read(0, folder, sizeof folder) || !call.Read(1, &options.buffers) ||
      !call.Read(2, &options.holders) || !call.Read(3, vague_command, sizeof vague_command)) {
    return nullptr;
  }
  options.folder = folder;
  options.vague_command = vague_command;
  const auto work = [options = std::move(options)](std::string* where) {
    return os::SurveyBpf(options, where);
  };
  return Queue(call, work, call.argument(4));
}

napi_value ReadWhole(Call& call) {
  char path[PATH_MAX];
  if (!call.Read(0, path, sizeof path)) return nullptr;
  QueueJob(call, "dmabuf:read", std::make_unique<ReadJob>(path), call.argument(1));
  return nullptr;
}

napi_value PinIterators(Call& call) {
  char folder[PATH_MAX];
  os::PinOptions options;
  if (!call.Read(0, folder, sizeof folder) || !call.Read(1, &options.holders) ||
      !call.Read(2, &options.mode) || !call.Read(3, &options.group)) {
    return nullptr;
  }
  std::string where;
  const Result<std::vector<std::string>> paths = os::PinIterators(folder, options, &where);
  if (!paths) return call.Fail(paths.error(), where.empty() ? nullptr : where.c_str()), nullptr;
  return ToJs(call.env(), *paths);
}

napi_value UnpinIterators(Call& call) {
  char folder[PATH_MAX];
  if (!call.Read(0, folder, sizeof folder)) return nullptr;
  std::string where;
  const Result<std::vector<std::string>> left = os::UnpinIterators(folder, &where);
  if (!left) return call.Fail(left.error(), where.c_str()), nullptr;
  return ToJs(call.env(), *left);
}

}  // namespace

const Exports kSurveyFunctions = {
    {"scanProcesses", Entry<ScanProcesses, 2>},   {"surveyBpf", Entry<SurveyBpf, 5>},
    {"readWhole", Entry<ReadWhole, 2>},           {"pinIterators", Entry<PinIterators, 4>},
    {"unpinIterators", Entry<UnpinIterators, 1>},
};

}  // namespace dmabuf::js
