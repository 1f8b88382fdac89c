type Transferable = ArrayBuffer & { transfer?(length?: number): ArrayBuffer };

/** Why memory cannot be moved by `ArrayBuffer.prototype.transfer` here; false when it can. */
export const noTransfer: string | false =
  'transfer' in ArrayBuffer.prototype ? false : 'ArrayBuffer.prototype.transfer is of Node.js 22';

/** Moves the memory to another ArrayBuffer with `ArrayBuffer.prototype.transfer`. */
export function transfer(buffer: ArrayBuffer): Uint8Array {
  return new Uint8Array((buffer as Transferable).transfer?.() ?? assertNever());
}

function assertNever(): never {
  throw new Error(String(noTransfer));
}

/** Moves the memory to another ArrayBuffer by way of a byte stream, which every version of Node.js does. */
export async function moveThroughStream(buffer: ArrayBuffer): Promise<Uint8Array> {
  const stream = new ReadableStream({
    type: 'bytes',
    pull(controller) {
      const request = (controller as ReadableByteStreamController).byobRequest;
      request?.respond(request.view?.byteLength ?? 0);
    },
  });
  const { value } = await stream.getReader({ mode: 'byob' }).read(new Uint8Array(buffer));
  return value as Uint8Array;
}
