// Packages that the runner builds kernel modules with, as far as it takes to run make: what stands for the kernel's makefile
// has recipes of the test's own.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AptRepository } from './apt-repository.js';

const VERSION = '7.99.1-1';

/** Headers whose makefile makes each module by these lines of shell. */
export function publishModuleHeaders(
  debian: AptRepository,
  suite: string,
  release: string,
  recipe: readonly string[],
): void {
  const modules = {
    DMA_HEAP_MODULE: 'dma_heap',
    SYSTEM_HEAP_MODULE: 'system_heap',
    DMABUF_HEAPS_CMA: 'cma_heap',
    SW_SYNC: 'sw_sync',
    DRM_VKMS: 'vkms',
    V4L2_MEM2MEM_DEV: 'v4l2-mem2mem',
    VIDEO_VIM2M: 'vim2m',
    VIDEO_VICODEC: 'vicodec',
    DMABUF_TEST: 'dmabuf_test',
  };
  const makefile = [
    `HERE := /usr/src/linux-headers-${release}`,
    'include $(HERE)/rules',
    ...Object.entries(modules).map(
      ([option, name]) => `modules: $(if $(filter m,$(CONFIG_${option})),$(M)/${name}.ko)`,
    ),
  ];
  const rules = ['all:', '$(M)/%.ko:', ...recipe.map((line) => `\t@${line}`)];
  const [common, kbuild] = ['linux-headers-7.99.1+deb13-common', 'linux-kbuild-7.99.1+deb13'];
  const headers = `usr/src/linux-headers-${release}`;
  debian.publishFiles(
    suite,
    { name: `linux-headers-${release}`, version: VERSION, depends: [`${common} (= ${VERSION})`, kbuild] },
    {
      [`${headers}/Makefile`]: `${makefile.join('\n')}\n`,
      [`${headers}/rules`]: `${rules.join('\n')}\n`,
    },
  );
  debian.publishFiles(suite, { name: common, version: VERSION }, {});
  debian.publishFiles(
    suite,
    { name: kbuild, version: VERSION },
    { [`usr/lib/${kbuild}/scripts/fixdep`]: '#!/bin/sh\n' },
  );
}

/** The source of two drivers, without a line in it. */
export function publishModuleSource(debian: AptRepository, suite: string, version: string = VERSION): void {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-source-'));
  const tree = join(folder, 'linux-source-7.99');
  for (const file of ['drivers/dma-buf/sw_sync.c', 'drivers/gpu/drm/vkms/Makefile']) {
    mkdirSync(join(tree, file, '..'), { recursive: true });
    writeFileSync(join(tree, file), '');
  }
  const archive = join(folder, 'linux-source-7.99.tar.xz');
  assert.equal(spawnSync('tar', ['-cJf', archive, '-C', folder, 'linux-source-7.99']).status, 0);
  const files = { 'usr/src/linux-source-7.99.tar.xz': readFileSync(archive) };
  debian.publishFiles(suite, { name: 'linux-source-7.99', version }, files);
  rmSync(folder, { recursive: true });
}
