import assert from 'node:assert/strict';
import { allocateSync, type DmaBuf, type DmaBufChannel } from 'dmabuf';
import { asBuffer } from './handles.js';
import { receiveFrom } from './peers.js';

// A long sequence of messages with 1 to 8 of a few hundred buffers each, which both sides can compute from a number.

/** How many distinct buffers there are. */
const distinct = 300;

/** Buffers of which each holds its own index. */
export function makeMarked(): DmaBuf[] {
  return Array.from({ length: distinct }, (_, index) => {
    const buffer = allocateSync(4096);
    buffer.write(Uint32Array.of(index));
    return buffer;
  });
}

function markOf(buffer: DmaBuf): number {
  const mark = new Uint32Array(1);
  buffer.read(mark);
  return mark[0] as number;
}

/** The indexes of the buffers of message after message: xorshift32. */
function* shapes(seed: number, count: number): Generator<number[]> {
  let state = seed;
  const random = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  for (let number = 0; number < count; number++) {
    yield Array.from({ length: 1 + (random() % 8) }, () => random() % distinct);
  }
}

/** Says which buffers there are, and sends the messages. Every one has its number and its buffers' indexes as data. */
export async function sendMany(
  channel: DmaBufChannel,
  buffers: readonly DmaBuf[],
  seed: number,
  count: number,
): Promise<void> {
  await channel.send(Float64Array.from(buffers, ({ inode }) => inode));
  let number = 0;
  for (const indexes of shapes(seed, count)) {
    await channel.send(
      Uint32Array.of(number++, ...indexes),
      indexes.map((index) => buffers[index] as DmaBuf),
    );
  }
}

/** Receives what `sendMany` sends, closes every handle, and fails when anything is lost, changed or out of order. */
export async function receiveMany(channel: DmaBufChannel, seed: number, count: number): Promise<void> {
  const { data: table } = await receiveFrom(channel);
  const inodes = new Float64Array(table.buffer, table.byteOffset, table.byteLength / 8);
  assert.equal(inodes.length, distinct);
  const unseen = new Set(inodes.keys());
  let number = 0;
  for (const indexes of shapes(seed, count)) {
    const { data, handles } = await receiveFrom(channel);
    const words = new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4);
    const arrived = handles.map((handle) => asBuffer(handle).inode);
    for (const [position, index] of indexes.entries()) {
      if (unseen.delete(index)) assert.equal(markOf(asBuffer(handles[position])), index);
    }
    for (const handle of handles) asBuffer(handle).close();
    const expected = [number, ...indexes];
    // Told apart here, since an assertion for every message would take most of the time.
    if (words.length !== expected.length || expected.some((word, position) => words[position] !== word)) {
      assert.deepEqual([...words], expected);
    }
    if (
      arrived.length !== indexes.length ||
      indexes.some((index, position) => inodes[index] !== arrived[position])
    ) {
      assert.deepEqual(
        arrived,
        Array.from(indexes, (index) => inodes[index]),
        `message ${number}`,
      );
    }
    number++;
  }
}
