#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace dmabuf::os {

inline void SkipSpaces(std::string_view* text) {
  text->remove_prefix(std::min(text->find_first_not_of(' '), text->size()));
}

// Removes the number at the start of `text`: digits of the base, and nothing before them. A number too large
// for 64 bits is UINT64_MAX; nothing if there is no number.
inline std::optional<uint64_t> TakeNumber(std::string_view* text, int base = 10) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number, base);
  if (error == std::errc::invalid_argument) return std::nullopt;
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  return error == std::errc() ? number : UINT64_MAX;
}

}  // namespace dmabuf::os
