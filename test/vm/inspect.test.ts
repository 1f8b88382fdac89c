import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runInVm } from 'dmabuf/vm';
import type { InspectReport } from '../support/programs/inspects.js';

const inspects = fileURLToPath(new URL('../support/programs/inspects.js', import.meta.url));

// A kernel stays locked down until it ends, so this takes one of its own.
describe('a kernel that is locked down', () => {
  it('confidentiality: no BPF program may read names, debugfs tells them, and BPF still tells the holders', async () => {
    const stdout = new PassThrough();
    const written = text(stdout);
    const script =
      'mount -t securityfs securityfs /sys/kernel/security; echo confidentiality > /sys/kernel/security/lockdown; ' +
      'DMABUF_TEST_SOURCES=auto,bpf exec "$@"';
    const { exitCode } = await runInVm({
      command: ['sh', '-ec', script, 'sh', process.execPath, inspects],
      kernel: 'newest',
      stdout,
    });
    stdout.end();
    assert.equal(exitCode, 0);
    const { snapshots, errors } = JSON.parse(await written) as InspectReport;
    assert.deepEqual(snapshots.auto?.source, ['debugfs', 'bpf']);
    assert.deepEqual(
      snapshots.auto?.attempts.map(({ source, code }) => [source, code]),
      [['bpf', 'EINVAL']],
    );
    assert.equal(errors.bpf?.code, 'EINVAL');
    assert.match(errors.bpf?.message ?? '', /locked down \(confidentiality\)/);
  });
});
