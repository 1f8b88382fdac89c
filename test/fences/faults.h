#pragma once

#include <node_api.h>

// Adds loseMemory(), catchFaults() and fault().
void AddFaults(napi_env env, napi_value exports);
