{
  "targets": [
    {
      "target_name": "inject",
      "sources": ["inject.cc", "order.cc", "wrappers.cc"],
      "defines": ["NAPI_VERSION=8"],
      "cflags_cc": ["-std=c++17", "-O1", "-fno-exceptions", "-Wall", "-Wextra", "-Werror"]
    }
  ]
}
