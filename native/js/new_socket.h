#pragma once

#include "js/call.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// SOCK_STREAM or SOCK_SEQPACKET.
int SocketTypeOf(HandleKind kind);
// The slot of a socket that is ours alone.
Result<uint32_t> AddSocket(Call& call, HandleKind kind, UniqueFd socket);
// What JavaScript gets of it: the slot, -EAGAIN where it has to wait, or the error.
napi_value ReturnSocket(Call& call, HandleKind kind, Result<UniqueFd> socket);
// Makes the two ends of a new connection, and leaves their slots in the registers.
napi_value YieldPair(Call& call, HandleKind kind);
// Takes over the descriptor of an end, and returns its slot; its flags stay as they are.
napi_value AdoptConnection(Call& call, HandleKind kind);
// A path's bytes, or a NUL and an abstract name.
bool ReadAddress(Call& call, size_t index, std::string_view* address);

}  // namespace dmabuf::js
