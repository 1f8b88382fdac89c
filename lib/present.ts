import { type InspectOptionsStylized, inspect } from 'node:util';
import * as workerThreads from 'node:worker_threads';

/** What the classes have in common: a description of the object for logs and JSON. */
interface Presentable {
  toJSON(): object;
}

/** Throws nothing: prototypes are shown, too, and have no details. */
function present(object: Presentable, type: string, depth: number, options: InspectOptionsStylized): string {
  if (depth < 0) return options.stylize(`[${type}]`, 'special');
  let details: object;
  try {
    const { type: _, ...rest } = object.toJSON() as { type?: string };
    details = rest;
  } catch {
    return `${type} {}`;
  }
  const deeper = typeof options.depth === 'number' ? options.depth - 1 : options.depth;
  return `${type} ${inspect(details, { ...options, depth: deeper })}`;
}

/** Makes util.inspect() and console.log() show the objects of a class by their toJSON() instead of their private members. */
export function showDetails(prototype: Presentable, type: string): void {
  const shown = {
    [inspect.custom](this: Presentable, depth: number, options: InspectOptionsStylized): string {
      return present(this, type, depth, options);
    },
  };
  Object.setPrototypeOf(shown, Object.getPrototypeOf(prototype));
  Object.setPrototypeOf(prototype, shown);
}

type Mark = ((object: object) => void) | undefined;

/**
 * Makes structuredClone() and postMessage() refuse an object with a DataCloneError, if Node.js can (22.10 and later): a
 * copy would have no private members, and so be useless.
 */
export const markUncloneable: Mark = (workerThreads as { markAsUncloneable?: Mark }).markAsUncloneable;
