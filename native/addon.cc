// Joins what JavaScript sees of the addon.

#include "js/functions.h"
#include "os/closer.h"
#include "os/entrusted.h"

namespace dmabuf::js {
namespace {

// (createError: (code: string | number, call?: string, path?: string) => Error) => void
napi_value SetErrorFactory(Call& call) {
  if (call.addon().create_error == nullptr) {
    napi_create_reference(call.env(), call.argument(0), 1, &call.addon().create_error);
  }
  return nullptr;
}

// (awaitClosers: () => void) => void; it calls startClosers() in a while, and again until that returns false
napi_value SetClosersTimer(Call& call) {
  if (call.addon().await_closers == nullptr) {
    napi_create_reference(call.env(), call.argument(0), 1, &call.addon().await_closers);
  }
  return nullptr;
}

// () => boolean
napi_value StartClosers(Call& call) {
  call.addon().awaits_closers = os::StartClosers();
  return call.Boolean(call.addon().awaits_closers);
}

// This environment is a worker's.
napi_value SetWorker(Call& call) {
  call.addon().is_worker = true;
  return nullptr;
}

const Exports kAddonFunctions = {
    {"setErrorFactory", Entry<SetErrorFactory, 1>},
    {"setClosersTimer", Entry<SetClosersTimer, 1>},
    {"startClosers", Entry<StartClosers, 0>},
    {"setWorker", Entry<SetWorker, 0>},
};

void DeleteAddonData(napi_env env, void* data, void* /*hint*/) {
  auto* addon = static_cast<AddonData*>(data);
  if (addon->unclaimed != nullptr) addon->unclaimed->Reclaim();
  os::CloseEntrusted(addon->worker());
  if (addon->registers_reference != nullptr) napi_delete_reference(env, addon->registers_reference);
  if (addon->unclaimed_reference != nullptr) napi_delete_reference(env, addon->unclaimed_reference);
  if (addon->create_error != nullptr) napi_delete_reference(env, addon->create_error);
  if (addon->await_closers != nullptr) napi_delete_reference(env, addon->await_closers);
  delete addon;
}

// The tests put others in their place.
constexpr auto kAttributes = static_cast<napi_property_attributes>(napi_enumerable | napi_writable);

void Define(napi_env env, napi_value exports, const char* name, napi_callback callback, void* data) {
  const napi_property_descriptor property = {name,    nullptr, callback,    nullptr,
                                             nullptr, nullptr, kAttributes, data};
  napi_define_properties(env, exports, 1, &property);
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* addon = new AddonData(env);
  napi_set_instance_data(env, addon, DeleteAddonData, nullptr);

  Napi::Float64Array registers = Napi::Float64Array::New(env, kRegisterCount);
  Napi::Float64Array unclaimed = Napi::Float64Array::New(env, Unclaimed::kRoom);
  // A worker that is being terminated creates no objects, and runs no code that would need them.
  if (registers.IsEmpty() || unclaimed.IsEmpty()) return exports;
  addon->registers = registers.Data();
  napi_create_reference(env, registers, 1, &addon->registers_reference);
  exports.Set("registers", registers);
  napi_value memory = nullptr;
  napi_value bits = nullptr;
  napi_get_typedarray_info(env, registers, nullptr, nullptr, nullptr, &memory, nullptr);
  napi_create_typedarray(env, napi_biguint64_array, kRegisterCount, memory, 0, &bits);
  if (bits == nullptr) return exports;
  napi_set_named_property(env, exports, "registerBits", bits);
  addon->unclaimed = std::make_unique<Unclaimed>(*addon->handles, unclaimed.Data());
  napi_create_reference(env, unclaimed, 1, &addon->unclaimed_reference);
  exports.Set("unclaimed", unclaimed);
  exports.Set("pageSize", Napi::Number::New(env, static_cast<double>(os::PageSize())));

  for (const Exports* table : {&kAddonFunctions, &kBufferFunctions, &kFdinfoFunctions, &kFenceFunctions,
                               &kFrameFunctions, &kHeapFunctions, &kMappingFunctions, &kMemoryFunctions,
                               &kPlaceFunctions, &kSocketFunctions, &kStreamFunctions, &kSurveyFunctions,
                               &kUdmabufFunctions}) {
    for (const Export& function : *table) Define(env, exports, function.name, function.callback, addon);
  }
  return exports;
}

}  // namespace
}  // namespace dmabuf::js

static Napi::Object InitDmabuf(Napi::Env env, Napi::Object exports) { return dmabuf::js::Init(env, exports); }

NODE_API_MODULE(dmabuf, InitDmabuf)
