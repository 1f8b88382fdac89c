// The GitHub Action's steps in a project that has this package, with a real guest.

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { findKernel } from '../../lib/vm/kernels.js';
import { runAction } from '../support/action.js';
import { installCopy } from '../support/installed.js';

const isDebian = /^ID=debian$/m.test(readFileSync('/etc/os-release', 'utf8'));

it('the action runs its commands in the guest, in the folder and with the options that were asked for', {
  skip: isDebian ? false : 'its steps would install packages on what is not Debian',
}, async () => {
  const { project, folder } = installCopy();
  try {
    writeFileSync(join(project, 'package.json'), '{ "name": "project" }');
    mkdirSync(join(project, 'node_modules/.bin'));
    chmodSync(join(folder, 'dist/package/cli.js'), 0o755);
    symlinkSync(join(folder, 'dist/package/cli.js'), join(project, 'node_modules/.bin/dmabuf'));
    const { status, stdout, stderr } = runAction(
      {
        kernel: 'stable',
        modules: 'vgem',
        'node-options': '--expose-gc',
        'working-directory': 'in it',
        run: 'uname -r\npwd\nls /dev/dri/card0\nnode -p "typeof gc"\nfalse | true\necho not reached\n',
      },
      { cwd: project },
    );
    const { release } = await findKernel('stable', { progress: () => {} });
    assert.deepEqual(
      stdout.trim().split('\n'),
      [release, join(project, 'in it'), '/dev/dri/card0', 'function'],
      stderr,
    );
    assert.equal(status, 1);
  } finally {
    rmSync(project, { recursive: true });
  }
});
