import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { chooseAccelerator, trialMemory } from '../../lib/vm/accel.js';
import { VmError } from '../../lib/vm/errors.js';

const settings = { accel: 'auto', progress: () => {}, signal: undefined, kvmUsable: () => true } as const;

function remembered(known?: boolean): {
  read(): boolean | undefined;
  write(works: boolean): void;
  value?: boolean;
} {
  return {
    ...(known === undefined ? {} : { value: known }),
    read() {
      return this.value;
    },
    write(works) {
      this.value = works;
    },
  };
}

const never = (): Promise<never> => assert.fail('no trial is needed');

describe('chooseAccelerator', () => {
  it('does what it is told without a trial', async () => {
    assert.equal(await chooseAccelerator({ ...settings, accel: 'kvm' }, remembered(false), never), 'kvm');
    assert.equal(await chooseAccelerator({ ...settings, accel: 'tcg' }, remembered(true), never), 'tcg');
  });

  it('emulates without a trial where KVM cannot be opened', async () => {
    assert.equal(
      await chooseAccelerator({ ...settings, kvmUsable: () => false }, remembered(), never),
      'tcg',
    );
  });

  it('takes KVM after a trial boot, and remembers', async () => {
    const memory = remembered();
    assert.equal(await chooseAccelerator(settings, memory, async () => {}), 'kvm');
    assert.equal(await chooseAccelerator(settings, memory, never), 'kvm');
  });

  it('emulates after a failed trial boot, and remembers', async () => {
    const memory = remembered();
    const fail = (): Promise<never> => Promise.reject(new VmError('ERR_DMABUF_VM_QEMU', 'KVM failed'));
    assert.equal(await chooseAccelerator(settings, memory, fail), 'tcg');
    assert.equal(await chooseAccelerator(settings, memory, never), 'tcg');
  });

  for (const code of ['ERR_DMABUF_VM_OPTION', 'ERR_DMABUF_VM_MODULE', 'ERR_DMABUF_VM_KERNEL'] as const) {
    it(`draws no conclusion from a guest that says itself what is wrong, by ${code}`, async () => {
      const memory = remembered();
      const refused = new VmError(code, 'refused');
      await assert.rejects(
        chooseAccelerator(settings, memory, () => Promise.reject(refused)),
        refused,
      );
      assert.equal(memory.read(), undefined);
    });
  }

  it('draws no conclusion from a trial that was aborted', async () => {
    const memory = remembered();
    const aborted = new VmError('ERR_DMABUF_VM_ABORTED', 'aborted');
    const trial = chooseAccelerator({ ...settings, signal: AbortSignal.abort() }, memory, () =>
      Promise.reject(aborted),
    );
    await assert.rejects(trial, aborted);
    assert.equal(memory.read(), undefined);
  });
});

describe('trialMemory', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('keeps the outcome per kernel', () => {
    trialMemory(folder, '6.12').write(true);
    trialMemory(folder, '7.2').write(false);
    assert.equal(trialMemory(folder, '6.12').read(), true);
    assert.equal(trialMemory(folder, '7.2').read(), false);
    assert.equal(trialMemory(folder, '6.1').read(), undefined);
  });

  it('leaves no unfinished files', () => {
    trialMemory(folder, '6.12').write(true);
    const [boot] = readdirSync(folder);
    assert.deepEqual(readdirSync(join(folder, boot as string)), ['6.12']);
  });
});
