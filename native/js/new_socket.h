#pragma once

#include "js/call.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// SOCK_STREAM or SOCK_SEQPACKET.
int SocketTypeOf(HandleKind kind);
// A handle for a socket that is ours alone.
Result<uint32_t> AddSocket(Call& call, HandleKind kind, UniqueFd socket);
// What JavaScript gets of it: the handle, -EAGAIN where it has to wait, or the error.
napi_value ReturnSocket(Call& call, HandleKind kind, Result<UniqueFd> socket);
// Two ends of a new connection: their handles are in the registers.
napi_value YieldPair(Call& call, HandleKind kind);
// The handle for an end whose descriptor is taken over; its flags stay as they are.
napi_value AdoptConnection(Call& call, HandleKind kind);
// A path's bytes, or a NUL and an abstract name.
bool ReadAddress(Call& call, size_t index, std::string_view* address);

}  // namespace dmabuf::js
