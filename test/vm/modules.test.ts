// Modules that Debian's kernels lack, built from Debian's sources, on the kernel that they were built for.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { capture } from './capture.js';

describe('modules that are built', () => {
  it('load, with what they need, and bring their devices', async () => {
    const { stdout } = await capture({
      command: [
        'sh',
        '-c',
        'ls /dev/dma_heap; ls -d /sys/kernel/debug/sync/sw_sync /dev/dmabuf_test /sys/class/drm/card0; cat /sys/class/video4linux/*/name',
      ],
      modules: ['cma_heap', 'sw-sync', 'vkms', 'vim2m', 'vicodec', 'dmabuf_test'],
      kernelArguments: ['cma=64M'],
    });
    assert.deepEqual(stdout.toString().trim().split('\n'), [
      ...['default_cma_region', 'reserved', 'system'],
      ...['/dev/dmabuf_test', '/sys/class/drm/card0', '/sys/kernel/debug/sync/sw_sync'],
      ...['vim2m', 'stateful-encoder', 'stateful-decoder', 'stateless-decoder'],
    ]);
  });

  it('are named where a module does not exist', async () => {
    await assert.rejects(capture({ command: ['true'], modules: ['no_such_module'] }), {
      code: 'ERR_DMABUF_VM_MODULE',
      message:
        /no module no_such_module\. Modules that can be built for it: .*sw_sync, vkms, .*dmabuf_test\.$/,
    });
  });
});
