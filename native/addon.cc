// The one list of everything that JavaScript sees of the addon.

#include "js/functions.h"
#include "os/closer.h"
#include "os/entrusted.h"

namespace dmabuf::js {
namespace {

struct Export {
  const char* name;
  napi_callback callback;
};

constexpr Export kExports[] = {
    {"openHeap", Entry<OpenHeap, 1>},
    {"allocateSync", Entry<AllocateSync, 3>},
    {"allocateAsync", Entry<AllocateAsync, 4>},
    {"importFd", Entry<ImportFd, 2>},
    {"isDmaBuf", Entry<IsDmaBufFd, 1>},
    {"describe", Entry<DescribeHandle, 1>},
    {"measure", Entry<MeasureBuffer, 1>},
    {"verify", Entry<VerifyHandle, 1>},
    {"close", Entry<CloseHandle, 1>},
    {"isLost", Entry<IsLostHandle, 1>},
    {"abandon", Entry<AbandonHandle, 1>},
    {"release", Entry<ReleaseHandle, 1>},
    {"duplicate", Entry<DuplicateHandle, 1>},
    {"listHandles", Entry<ListHandles, 1>},
    {"setName", Entry<SetName, 2>},
    {"beginCpuAccess", Entry<BeginAccess, 2>},
    {"tryBeginCpuAccess", Entry<TryBeginAccess, 2>},
    {"endCpuAccess", Entry<EndAccess, 2>},
    {"map", Entry<MapRange, 4>},
    {"unmap", Entry<UnmapRange, 2>},
    {"isMapped", Entry<IsMappedRange, 2>},
    {"mappingLimits", Entry<DescribeMappingLimits, 0>},
    {"mapWhole", Entry<MapWhole, 1>},
    {"read", Entry<ReadBytes, 4>},
    {"write", Entry<WriteBytes, 3>},
    {"info", Entry<InfoOf, 1>},
    {"isReady", Entry<IsReadyFor, 2>},
    {"poll", Entry<StartPoll, 3>},
    {"waitOnThread", Entry<WaitOnThread, 0>},
    {"cancelPoll", Entry<CancelPoll, 1>},
    {"importSyncFileFd", Entry<ImportSyncFileFd, 2>},
    {"exportSyncFile", Entry<ExportFences, 2>},
    {"importSyncFile", Entry<ImportFences, 3>},
    {"syncFileStatus", Entry<StatusOfSyncFile, 1>},
    {"syncFileInfo", Entry<InfoOfSyncFile, 1>},
    {"syncFileInfoOfMany", Entry<ManyFencesOfSyncFile, 2>},
    {"mergeSyncFiles", Entry<MergeFences, 2>},
    {"mergeSyncFilesAsync", Entry<MergeFencesAsync, 3>},
    {"setDeadline", Entry<SetFenceDeadline, 2>},
    {"createChannelPair", Entry<CreateChannelPair, 0>},
    {"connect", Entry<ConnectChannel, 1>},
    {"finishConnecting", Entry<FinishConnecting, 1>},
    {"connectingState", Entry<ConnectingState, 1>},
    {"openPlace", Entry<OpenPlace, 2>},
    {"openInPlace", Entry<OpenInPlace, 3>},
    {"removeInPlace", Entry<RemoveInPlace, 3>},
    {"changeMode", Entry<ChangeModeAt, 3>},
    {"isSocketAlive", Entry<IsSocketAliveAt, 2>},
    {"lockPlace", Entry<LockPlace, 2>},
    {"listen", Entry<ListenAtName, 2>},
    {"listenInPlace", Entry<ListenInPlace, 4>},
    {"keepPlace", Entry<KeepPlace, 4>},
    {"removeSocket", Entry<RemoveSocket, 2>},
    {"adoptChannel", Entry<AdoptChannel, 1>},
    {"markCloseOnExec", Entry<MarkCloseOnExec, 1>},
    {"accept", Entry<AcceptChannel, 1>},
    {"describePeer", Entry<DescribePeer, 1>},
    {"limitMessages", Entry<LimitMessages, 2>},
    {"send", Entry<SendOnChannel, 3>},
    {"closeNumbers", Entry<CloseNumbers, 2>},
    {"hold", Entry<HoldForSending, 3>},
    {"takeMessage", Entry<TakeMessage, 1>},
    {"receive", Entry<ReceiveOnChannel, 2>},
    {"importFromProcess", Entry<ImportFromProcess, 2>},
    {"createMemfd", Entry<CreateSealedMemfd, 3>},
    {"seals", Entry<SealsOfFd, 1>},
    {"createUdmabuf", Entry<UdmabufFromPieces, 1>},
    {"allocateUdmabufSync", Entry<AllocateUdmabufSync, 1>},
    {"allocateUdmabufAsync", Entry<AllocateUdmabufAsync, 2>},
    {"parseFdInfo", Entry<ParseFdInfoText, 1>},
    {"readFdInfo", Entry<ReadFdInfoOf, 2>},
    {"scanProcesses", Entry<ScanProcfs, 1>},
    {"surveyBpf", Entry<SurveyBpf, 4>},
    {"readWhole", Entry<ReadWhole, 2>},
    {"pinIterators", Entry<PinIterators, 4>},
    {"unpinIterators", Entry<UnpinIterators, 1>},
    {"freeMemory", Entry<FreeMemory, 0>},
    {"availableMemory", Entry<AvailableMemory, 0>},
    {"settledMemory", Entry<SettledMemory, 1>},
    {"admitMemory", Entry<AdmitMemory, 4>},
    {"reserveMemory", Entry<ReserveMemory, 2>},
    {"forgoMemory", Entry<ForgoMemory, 0>},
};

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
napi_value StartMissingClosers(Call& call) {
  call.addon().awaits_closers = os::StartClosers();
  return call.Boolean(call.addon().awaits_closers);
}

// This environment is a worker's.
napi_value SetWorker(Call& call) {
  call.addon().is_worker = true;
  return nullptr;
}

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
  // A worker that is being terminated makes no objects any more, and runs nothing that would miss them.
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

  Define(env, exports, "setErrorFactory", Entry<SetErrorFactory, 1>, addon);
  Define(env, exports, "setClosersTimer", Entry<SetClosersTimer, 1>, addon);
  Define(env, exports, "startClosers", Entry<StartMissingClosers, 0>, addon);
  Define(env, exports, "setWorker", Entry<SetWorker, 0>, addon);
  for (const Export& function : kExports) Define(env, exports, function.name, function.callback, addon);
  return exports;
}

}  // namespace
}  // namespace dmabuf::js

static Napi::Object InitDmabuf(Napi::Env env, Napi::Object exports) { return dmabuf::js::Init(env, exports); }

NODE_API_MODULE(dmabuf, InitDmabuf)
