#include "os/bpf_survey.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

#include "os/bpf.h"
#include "os/bpf_folder.h"
#include "os/fdinfo.h"
#include "os/file.h"
#include "os/process_command.h"
#include "os/watched.h"

namespace dmabuf::os {
namespace {

// Where iterators come from.
struct Origin {
  std::string path;
  std::optional<BpfFolder> pinned;  // if it exists; otherwise they are loaded
  std::string* where;               // the path that is responsible for a failure
};

Result<UniqueFd> OpenSurvey(BpfIterator iterator, const Origin& origin) {
  if (origin.pinned) {
    *origin.where = origin.path + "/" + PinName(iterator);
    return OpenPinned(origin.pinned->folder.get(), PinName(iterator));
  }
  const Result<UniqueFd> link = LinkSurvey(iterator);
  if (!link) return link.error();
  return OpenIterator(link->get());
}

// The kernel gives no more than it has collected, 32 KiB.
constexpr size_t kCapacity = size_t{64} << 10;

// An invalid record ends the reading; so do more records than a machine can have.
template <typename Record>
class RecordReader {
 public:
  explicit RecordReader(int iterator) : iterator_(iterator), chunk_(kCapacity) {}

  // Calls `visit` with every record of one read until it returns false. Returns whether there is more.
  template <typename Visit>
  Result<bool> ReadSome(Visit visit) {
    const ssize_t count = ::read(iterator_, chunk_.data() + kept_, kCapacity - kept_);
    if (count < 0 && errno == EINTR) return true;
    // A million descriptors of other files in a row.
    if (count < 0 && errno == EAGAIN && ++empty_reads_ <= kMaxEmptyReads) return true;
    if (count < 0) return SystemError{errno, "read"};
    if (count == 0) {
      if (kept_ != 0) return SystemError{EPROTO, "read"};
      return false;
    }
    const size_t length = kept_ + static_cast<size_t>(count);
    size_t at = 0;
    for (; at + sizeof(Record) <= length; at += sizeof(Record)) {
      Record record;
      std::memcpy(&record, chunk_.data() + at, sizeof record);
      if (!visit(record)) return SystemError{EPROTO, "read"};
      if (++records_ > kMaxRecords) return SystemError{EFBIG, "read"};
    }
    kept_ = length - at;
    std::memmove(chunk_.data(), chunk_.data() + at, kept_);
    return true;
  }

 private:
  static constexpr int kMaxEmptyReads = 1000;
  static constexpr size_t kMaxRecords = size_t{1} << 22;

  int iterator_;
  std::vector<char> chunk_;
  size_t kept_ = 0;
  size_t records_ = 0;
  int empty_reads_ = 0;
};

template <typename Record, typename Visit>
Result<void> ForEachRecord(int iterator, Visit visit) {
  RecordReader<Record> reader(iterator);
  for (;;) {
    const Result<bool> more = reader.ReadSome(visit);
    if (!more) return more.error();
    if (!*more) return {};
  }
}

// The text that a record has, if it is as long as it says.
template <size_t capacity>
std::optional<std::string_view> TextOf(const char (&text)[capacity], int32_t length) {
  if (length <= 0 || ::strnlen(text, capacity) + 1 != static_cast<size_t>(length)) return std::nullopt;
  return std::string_view(text, static_cast<size_t>(length) - 1);
}

bool MakesSense(const BufferRecord& record) {
  return record.inode != 0 && record.inode <= kMaxFigure && record.size <= kMaxFigure &&
         record.references >= 0 && static_cast<uint64_t>(record.references) <= kMaxFigure &&
         TextOf(record.exporter, record.exporter_length) &&
         (record.name_length <= 0 || TextOf(record.name, record.name_length));
}

bool MakesSense(const HolderRecord& record) {
  constexpr int32_t kMostPids = 1 << 22;  // PID_MAX_LIMIT
  return record.inode != 0 && record.inode <= kMaxFigure && record.pid > 0 && record.pid <= kMostPids &&
         record.unused == 0;
}

// Whether its first records are valid, or it has none.
template <typename Record>
Result<bool> StartsWith(int fd) {
  RecordReader<Record> reader(fd);
  bool is_over = false;
  while (!is_over) {
    const Result<bool> more = reader.ReadSome([&is_over](const Record& record) {
      is_over = true;
      return MakesSense(record);
    });
    if (!more && more.error().number == EPROTO) return false;
    if (!more) return more.error();
    is_over = is_over || !*more;
  }
  return true;
}

Result<void> ReadBuffers(const Origin& origin, Survey* survey) {
  const Result<UniqueFd> iterator = OpenSurvey(BpfIterator::kBuffers, origin);
  if (!iterator) return iterator.error();
  return ForEachRecord<BufferRecord>(iterator->get(), [&](const BufferRecord& record) {
    if (!MakesSense(record)) return false;
    bool is_new = false;
    const uint32_t index = survey->BufferOf(record.inode, &is_new);
    if (!is_new) return true;
    Survey::Buffer& buffer = survey->buffers[index];
    buffer.size = record.size;
    buffer.references = record.references;
    buffer.exporter = survey->ExporterOf(*TextOf(record.exporter, record.exporter_length));
    if (record.name_length > 0) survey->SetName(index, *TextOf(record.name, record.name_length));
    return true;
  });
}

Result<void> ReadHolders(BpfIterator which, const Origin& origin, bool known_alone, Survey* survey) {
  const Result<UniqueFd> iterator = OpenSurvey(which, origin);
  if (!iterator) return iterator.error();
  return ForEachRecord<HolderRecord>(iterator->get(), [&](const HolderRecord& record) {
    if (!MakesSense(record)) return false;
    // A buffer that was made since the buffers were read has no size yet.
    if (known_alone && survey->Find(record.inode) == nullptr) return true;
    bool is_new = false;
    Survey::Holding& holding = survey->HoldingOf(survey->BufferOf(record.inode, &is_new), record.pid);
    (which == BpfIterator::kDescriptors ? holding.fds : holding.mappings)++;
    return true;
  });
}

// Buffers without holders because they were freed would look like buffers of the kernel.
Result<void> DropVanished(const Origin& origin, Survey* survey) {
  std::vector<bool> is_held(survey->buffers.size(), false);
  for (const Survey::Holding& holding : survey->holdings) is_held[holding.buffer] = true;
  bool all = true;
  for (const bool held : is_held) all = all && held;
  if (all) return {};
  Survey later;
  const Result<void> read = ReadBuffers(origin, &later);
  if (!read) return read;
  for (size_t index = 0; index < is_held.size(); index++) {
    Survey::Buffer& buffer = survey->buffers[index];
    if (!is_held[index] && later.Find(buffer.inode) == nullptr) buffer.is_gone = true;
  }
  return {};
}

bool IsFirstPidNamespace() {
  constexpr ino_t kFirst = 0xEFFFFFFC;  // PROC_PID_INIT_INO
  struct stat status;
  return ::stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == kFirst;
}

}  // namespace

Result<bool> ReadsAs(BpfIterator iterator, int fd) {
  return iterator == BpfIterator::kBuffers ? StartsWith<BufferRecord>(fd) : StartsWith<HolderRecord>(fd);
}

namespace {

Result<Survey> SurveyHere(const BpfSurveyOptions& options, std::string* where) {
  if (options.holders && !IsFirstPidNamespace()) return SystemError{EOPNOTSUPP, "pid_namespaces"};
  Origin origin{options.folder, std::nullopt, where};
  if (!options.folder.empty()) {
    Result<BpfFolder> folder = OpenBpfFolder(options.folder, where);
    if (!folder) return folder.error();
    origin.pinned = std::move(*folder);
  }
  Survey survey;
  if (options.buffers) {
    const Result<void> read = ReadBuffers(origin, &survey);
    if (!read) return read.error();
  }
  if (options.holders) {
    for (const BpfIterator which : {BpfIterator::kDescriptors, BpfIterator::kMappings}) {
      const Result<void> read = ReadHolders(which, origin, options.buffers, &survey);
      if (!read) return read.error();
    }
    if (options.buffers) {
      const Result<void> dropped = DropVanished(origin, &survey);
      if (!dropped) return dropped.error();
    }
    ReadCommands(&survey, options.vague_command);
  }
  return survey;
}

}  // namespace

Result<Survey> SurveyBpf(const BpfSurveyOptions& options, std::string* where) {
  // The iterator over mappings waits for the memory map of each process, which one of them may hold for
  // ever. Then it is useless to try again, and every attempt would cost a thread.
  static std::atomic<int> hanging{0};
  constexpr std::chrono::milliseconds kPatience(5000);
  if (options.holders && hanging > 0) return SystemError{ETIMEDOUT, "read"};
  struct Outcome {
    std::optional<Result<Survey>> survey;
    std::string where;
  };
  const auto outcome = std::make_shared<Outcome>();
  const Watched watched = RunWatched(kPatience, [options, outcome](Watch* watch) {
    watch->Begin();
    Result<Survey> survey = SurveyHere(options, &outcome->where);
    if (watch->End()) {
      outcome->survey.emplace(std::move(survey));
    } else {
      hanging--;
    }
  });
  if (watched == Watched::kNotStarted) return SystemError{EAGAIN, "pthread_create"};
  if (watched == Watched::kEnded) {
    *where = std::move(outcome->where);
    return std::move(*outcome->survey);
  }
  hanging++;
  return SystemError{ETIMEDOUT, "read"};
}

}  // namespace dmabuf::os
