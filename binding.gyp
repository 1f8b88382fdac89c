{
  "targets": [
    {
      "target_name": "dmabuf",
      "sources": [
        "native/addon.cc",
        "<!@(node -p \"['js','os'].flatMap(d => require('fs').readdirSync('native/'+d).filter(f => f.endsWith('.cc')).sort().map(f => 'native/'+d+'/'+f)).join(' ')\")"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")", "native"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags_cc": ["-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-Wall", "-Wextra"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-std=c++20", "-O3"],
      "ldflags": ["-Wl,--version-script=<(module_root_dir)/native/exports.map", "-Wl,--gc-sections", "-Wl,-z,now", "-Wl,-z,nodelete"],
      "cflags": ["-ffunction-sections", "-fdata-sections"]
    }
  ]
}
