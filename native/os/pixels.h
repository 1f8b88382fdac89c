#pragma once

#include <cstddef>
#include <cstdint>

namespace dmabuf::os {

// Where one colour component of a picture's pixels is among the bytes of its planes' lines.
struct PixelComponent {
  size_t start;    // of the plane's first line
  size_t stride;   // bytes from one line to the next
  size_t columns;  // pixels of a line that share a value
  size_t rows;     // lines of the picture that share a line of values
  size_t lines;    // lines of the plane for so many rows
  size_t line;     // which of them has the values
  size_t step;     // bytes from one value to the next
  size_t offset;   // bytes to the first
  uint32_t word;   // bytes of the little-endian word that has the value: 1, 2 or 4
  uint32_t shift;  // of the value in it
  uint32_t bits;   // of the value
};

enum class PixelModel : uint8_t { kRgb, kYuv, kGrey };

// A part of a picture.
struct Picture {
  static constexpr size_t kMostComponents = 4;
  size_t x;
  size_t y;
  size_t width;
  size_t height;
  PixelModel model;
  uint32_t matrix;  // 0 BT.601, 1 BT.709, + 2 for the full range
  PixelComponent components[kMostComponents];
  size_t count;
};

// Whether all values are within so many bytes.
bool IsWithin(const Picture& picture, size_t length);

// Converts to red, green, blue and alpha, 8 bits each: 4 * width * height bytes. IsWithin() must hold.
void ToRgba(const Picture& picture, const uint8_t* source, uint8_t* target);

}  // namespace dmabuf::os
