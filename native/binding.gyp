{
  "targets": [
    {
      "target_name": "dmabuf",
      # gyp makes it relative to whatever includes this file, and so the two commands below find this folder.
      "variables": { "native_dir": "." },
      "sources": [
        "addon.cc",
        "<!@(node -p \"['js','os'].flatMap(d => require('fs').readdirSync('<(native_dir)/'+d).filter(f => f.endsWith('.cc')).sort().map(f => '<(native_dir)/'+d+'/'+f)).join(' ')\")"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")", "."],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags_cc": ["-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-Wall", "-Wextra"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-std=c++20", "-O3"],
      "ldflags": ["-Wl,--version-script=<(module_root_dir)/<(native_dir)/exports.map", "-Wl,--gc-sections", "-Wl,-z,now", "-Wl,-z,nodelete"],
      "cflags": ["-ffunction-sections", "-fdata-sections"]
    }
  ]
}
