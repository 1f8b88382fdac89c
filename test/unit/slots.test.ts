import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { describe, test } from 'node:test';
import { native, Register, type Slot, Yielded } from '../../lib/native.js';

// Of lib's own copy, whose errors are of another class than those of 'dmabuf'.
const closed = { code: 'ERR_DMABUF_CLOSED' };

function open(): Slot {
  const slot = native.createMemfd('slot', 4096, 0, true);
  native.unclaimed[Yielded.only] = 0;
  return slot;
}

/** The inode of the memfd in a slot, by its descriptor. */
function inodeIn(slot: Slot): number {
  native.verify(slot);
  native.describe(slot);
  return fstatSync(native.registers[Register.fd] as number).ino;
}

describe('slots', () => {
  test('one that was given up reaches none of its successors', () => {
    const stale = open();
    const taken = new Set([stale]);
    native.close(stale);
    for (let round = 0; round < 5000; round++) {
      const successor = open();
      assert.ok(!taken.has(successor), `${successor} was given twice`);
      taken.add(successor);
      assert.throws(() => native.verify(stale), closed);
      assert.throws(() => native.describe(stale), closed);
      assert.throws(() => native.duplicate(stale), closed);
      assert.throws(() => native.release(stale), closed);
      native.close(stale);
      native.abandon(stale);
      native.verify(successor);
      native.close(successor);
    }
  });

  test('however many are open, each leads to its own file', () => {
    const files = new Map<Slot, number>();
    const gone: Slot[] = [];
    for (let round = 0; round < 300; round++) {
      const slot = open();
      assert.ok(Number.isInteger(slot) && slot > 0 && slot < 2 ** 31);
      files.set(slot, inodeIn(slot));
      if (round % 3 !== 0) continue;
      const [first] = files.keys();
      native.close(first as Slot);
      files.delete(first as Slot);
      gone.push(first as Slot);
    }
    for (const [slot, inode] of files) assert.equal(inodeIn(slot), inode);
    for (const slot of gone) assert.throws(() => native.verify(slot), closed);
    for (const slot of files.keys()) native.close(slot);
  });

  test('a number that was never given leads nowhere', () => {
    for (const number of [0, 1 << 30, 2 ** 31 - 1, 2 ** 32 - 1]) {
      assert.throws(() => native.verify(number), closed);
    }
  });
});
