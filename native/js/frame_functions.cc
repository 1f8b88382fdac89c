#include "js/functions.h"
#include "os/pixels.h"

namespace dmabuf::js {
namespace {

// What lib/frame/to-rgba.ts says of a picture, and of each of its components.
constexpr size_t kPictureNumbers = 6;
constexpr size_t kComponentNumbers = 11;

size_t Whole(double number) {
  return number >= 0 && number <= 9007199254740992.0 ? static_cast<size_t>(number) : SIZE_MAX;
}

os::PixelComponent ToComponent(const double* numbers) {
  const auto small = [&](size_t index) { return static_cast<uint32_t>(Whole(numbers[index])); };
  return {Whole(numbers[0]), Whole(numbers[1]), Whole(numbers[2]), Whole(numbers[3]),
          Whole(numbers[4]), Whole(numbers[5]), Whole(numbers[6]), Whole(numbers[7]),
          small(8),          small(9),          small(10)};
}

napi_value ToRgba(Call& call) {
  uint8_t* source = nullptr;
  size_t source_length = 0;
  double* plan = nullptr;
  size_t plan_length = 0;
  uint8_t* target = nullptr;
  size_t target_length = 0;
  if (!call.Read(0, &source, &source_length) || !call.Read(1, &plan, &plan_length) ||
      !call.Read(2, &target, &target_length)) {
    return nullptr;
  }
  if (plan_length < kPictureNumbers) return call.Fail("ERR_OUT_OF_RANGE"), nullptr;
  os::Picture picture{};
  picture.x = Whole(plan[0]);
  picture.y = Whole(plan[1]);
  picture.width = Whole(plan[2]);
  picture.height = Whole(plan[3]);
  picture.model = static_cast<os::PixelModel>(Whole(plan[4]));
  picture.matrix = static_cast<uint32_t>(Whole(plan[5]));
  picture.count = (plan_length - kPictureNumbers) / kComponentNumbers;
  for (size_t index = 0; index < picture.count && index < os::Picture::kMostComponents; index++) {
    picture.components[index] = ToComponent(plan + kPictureNumbers + index * kComponentNumbers);
  }
  if (!os::IsWithin(picture, source_length) || target_length / 4 / picture.width < picture.height) {
    return call.Fail("ERR_OUT_OF_RANGE"), nullptr;
  }
  os::ToRgba(picture, source, target);
  return nullptr;
}

}  // namespace

const Exports kFrameFunctions = {
    {"toRgba", Entry<ToRgba, 3>},
};

}  // namespace dmabuf::js
