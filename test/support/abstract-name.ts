import { threadId } from 'node:worker_threads';

let names = 0;

/** An abstract name of a socket that nobody else has. */
export function abstractName(): string {
  return `@dmabuf-test-${process.pid}-${threadId}-${++names}`;
}
