{
  "targets": [
    {
      "target_name": "fences",
      "sources": ["fences.cc", "faults.cc"],
      "defines": ["NAPI_VERSION=8"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    }
  ]
}
