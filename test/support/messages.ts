// What a test or a worker does with messages. Imports little: a worker loads it each time.

import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { type ChannelMessage, DmaBuf, type DmaBufChannel, type Sendable, SyncFile } from 'dmabuf';

/** The next message, which must be there or come. */
export async function next(channel: DmaBufChannel): Promise<ChannelMessage> {
  const message = await channel.receive();
  assert.ok(message, 'the peer is gone');
  return message;
}

/** The next message's data as text. It must have no handles. */
export async function nextText(channel: DmaBufChannel): Promise<string> {
  const { data, handles } = await next(channel);
  assert.equal(handles.length, 0);
  return Buffer.from(data).toString();
}

/** All messages as text, until the peer is gone. */
export async function allTexts(channel: DmaBufChannel): Promise<string[]> {
  const texts: string[] = [];
  for await (const { data } of channel) texts.push(Buffer.from(data).toString());
  return texts;
}

/** The descriptor of whatever was sent or received. */
export function fdOf(handle: Sendable): number {
  return typeof handle === 'number' ? handle : handle.fd;
}

/** What a handle is, and of which file. */
export function fileOf(handle: Sendable): string {
  const kind = handle instanceof DmaBuf ? 'DmaBuf' : handle instanceof SyncFile ? 'SyncFile' : 'number';
  const { dev, ino } = fstatSync(fdOf(handle));
  return `${kind} ${dev}:${ino}`;
}
