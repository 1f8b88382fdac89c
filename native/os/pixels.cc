#include "os/pixels.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace dmabuf::os {
namespace {

// Limits that keep sums of products below 2^63: the library's pictures have at most 65 536 lines and columns.
constexpr size_t kMostPixels = 1 << 16;
constexpr size_t kMostStride = size_t{1} << 32;

size_t LineOf(const PixelComponent& component, size_t y) {
  return component.start + (y / component.rows * component.lines + component.line) * component.stride +
         component.offset;
}

bool IsSane(const PixelComponent& component) {
  const uint32_t width = 8 * component.word;
  return component.columns > 0 && component.rows > 0 && component.columns <= 4 && component.rows <= 4 &&
         component.lines <= 4 && component.line <= 4 && component.step <= 16 && component.offset <= 16 &&
         component.stride <= kMostStride &&
         (component.word == 1 || component.word == 2 || component.word == 4) && component.bits > 0 &&
         component.bits <= 16 && component.shift + component.bits <= width;
}

template <typename Word>
uint32_t Load(const uint8_t* bytes) {
  Word word = 0;
  std::memcpy(&word, bytes, sizeof word);  // little-endian, as every processor that the package runs on
  return word;
}

// The value as 8 bits.
uint32_t Scale(uint32_t value, uint32_t bits) {
  if (bits >= 8) return value >> (bits - 8);
  const uint32_t most = (1U << bits) - 1;
  return (value * 255 + most / 2) / most;
}

template <typename Word>
void ReadLine(const PixelComponent& component, const uint8_t* line, size_t x, size_t width, uint8_t* values) {
  const uint32_t mask = (1U << component.bits) - 1;
  for (size_t index = 0; index < width; index++) {
    const size_t place = (x + index) / component.columns * component.step;
    values[index] =
        static_cast<uint8_t>(Scale((Load<Word>(line + place) >> component.shift) & mask, component.bits));
  }
}

void ReadComponent(const Picture& picture, const PixelComponent& component, const uint8_t* source, size_t y,
                   uint8_t* values) {
  const uint8_t* line = source + LineOf(component, y);
  if (component.word == 1) return ReadLine<uint8_t>(component, line, picture.x, picture.width, values);
  if (component.word == 2) return ReadLine<uint16_t>(component, line, picture.x, picture.width, values);
  ReadLine<uint32_t>(component, line, picture.x, picture.width, values);
}

// In 65 536ths (ITU-R BT.601 and BT.709, both for 16 to 235 and 240, and for 0 to 255).
struct Matrix {
  int32_t black;
  int32_t luma;
  int32_t red_of_v;
  int32_t green_of_u;
  int32_t green_of_v;
  int32_t blue_of_u;
};
constexpr Matrix kMatrices[] = {
    {16, 76309, 104597, 25675, 53279, 132201},
    {16, 76309, 117489, 13975, 34925, 138438},
    {0, 65536, 91881, 22554, 46802, 116130},
    {0, 65536, 103206, 12276, 30679, 121609},
};

uint8_t Clamp(int32_t value) { return static_cast<uint8_t>(std::clamp((value + 32768) >> 16, 0, 255)); }

void YuvToRgb(const Matrix& matrix, uint8_t* pixel) {
  const int32_t luma = (pixel[0] - matrix.black) * matrix.luma;
  const int32_t u = pixel[1] - 128;
  const int32_t v = pixel[2] - 128;
  pixel[0] = Clamp(luma + v * matrix.red_of_v);
  pixel[1] = Clamp(luma - u * matrix.green_of_u - v * matrix.green_of_v);
  pixel[2] = Clamp(luma + u * matrix.blue_of_u);
}

}  // namespace

bool IsWithin(const Picture& picture, size_t length) {
  if (picture.width == 0 || picture.height == 0 || picture.count == 0 ||
      picture.count > Picture::kMostComponents || picture.x > kMostPixels || picture.width > kMostPixels ||
      picture.y > kMostPixels || picture.height > kMostPixels || picture.matrix > 3) {
    return false;
  }
  for (size_t index = 0; index < picture.count; index++) {
    const PixelComponent& component = picture.components[index];
    if (!IsSane(component) || component.start > length) return false;
    const size_t column = (picture.x + picture.width - 1) / component.columns * component.step;
    const size_t end = LineOf(component, picture.y + picture.height - 1) + column + component.word;
    if (end > length) return false;
  }
  return true;
}

void ToRgba(const Picture& picture, const uint8_t* source, uint8_t* target) {
  std::vector<uint8_t> values(picture.width);
  const bool has_alpha = picture.count == 4;
  for (size_t row = 0; row < picture.height; row++) {
    uint8_t* line = target + 4 * picture.width * row;
    for (size_t index = 0; index < picture.count; index++) {
      ReadComponent(picture, picture.components[index], source, picture.y + row, values.data());
      for (size_t x = 0; x < picture.width; x++) line[4 * x + index] = values[x];
    }
    for (size_t x = 0; x < picture.width; x++) {
      uint8_t* pixel = line + 4 * x;
      if (picture.model == PixelModel::kYuv) YuvToRgb(kMatrices[picture.matrix], pixel);
      if (picture.model == PixelModel::kGrey) pixel[1] = pixel[2] = pixel[0];
      if (!has_alpha) pixel[3] = 255;
    }
  }
}

}  // namespace dmabuf::os
