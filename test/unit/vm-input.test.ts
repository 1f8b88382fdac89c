import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import type { VmError } from '../../lib/vm/errors.js';
import { pipedInput } from '../../lib/vm/input.js';

/** A stream that cannot be read, for this reason. */
function failing(code: string): Readable {
  return new Readable({
    read() {
      this.destroy(Object.assign(new Error(`${code}: read`), { code }));
    },
  });
}

describe('the input of a command', () => {
  const attached = (from: Readable): { stdin: PassThrough; failed: Promise<VmError> } => {
    const stdin = new PassThrough();
    const failed = new Promise<VmError>((fail) => {
      pipedInput(from).attach({ stdin, tell: () => {}, fail });
    });
    return { stdin, failed };
  };

  it('ends where the stream does', async () => {
    assert.equal(await text(attached(Readable.from(['one ', 'two'])).stdin), 'one two');
  });

  it('is empty where nobody may read it, as nohup(1) has it', async () => {
    assert.equal(await text(attached(failing('EBADF')).stdin), '');
  });

  it('is a failure of the runner where it cannot be read', async () => {
    const { code, message } = await attached(failing('EIO')).failed;
    assert.equal(code, 'ERR_DMABUF_VM_INPUT');
    assert.match(message, /input cannot be read: EIO: read/);
  });

  it('is left alone when the guest has ended', async () => {
    const from = new PassThrough();
    const input = pipedInput(from);
    const stdin = new PassThrough();
    input.attach({ stdin, tell: () => {}, fail: () => {} });
    from.write('before');
    await new Promise((resolve) => stdin.once('readable', resolve));
    await input.detach(true);
    assert.equal(from.isPaused(), true);
    from.write('after');
    assert.equal(String(stdin.read()), 'before');
    assert.equal(stdin.read(), null);
  });
});
