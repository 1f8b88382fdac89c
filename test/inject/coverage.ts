// Whether the scripts use every public function: which of them they call.

import { declaredFunctions } from './declared.js';
import type { Packages } from './script.js';

// biome-ignore lint/complexity/noBannedTypes: any function at all.
type Callable = Function;

/** What needs no script, and why. */
const exempt: readonly string[] = [
  // An error is made of what has failed.
  'DmaBufError.constructor',
  'DmaBufError.toJSON',
  // Takes gauges out of a registry. Not of a class, so that it cannot be watched; the script of registerMetrics calls it.
  'DmaBufMetrics.unregister',
  // Of an object that FrameSender.add() makes; its script calls them.
  'FrameConnection.statistics',
  'FrameConnection.close',
];

const isClass = (value: Callable): boolean => /^class\b/.test(Function.prototype.toString.call(value));

export class Coverage {
  readonly #called = new Set<string>();
  /** The packages as scripts get them. */
  readonly packages: Packages;

  constructor({ core, frame, inspect, metrics }: Packages) {
    this.packages = {
      core: this.#watched(core),
      frame: this.#watched(frame),
      inspect: this.#watched(inspect),
      metrics: this.#watched(metrics),
    };
  }

  /** The functions that the package declares and no script has called so far. */
  missing(): string[] {
    return declaredFunctions().filter((name) => !this.#called.has(name) && !exempt.includes(name));
  }

  #watched<T extends object>(module: T): T {
    const watched: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(module)) {
      if (typeof value !== 'function') watched[name] = value;
      else if (isClass(value)) {
        this.#watchMembers(name, value);
        this.#watchMembers(name, value.prototype);
        watched[name] = this.#withCountedConstructor(name, value);
      } else watched[name] = this.#counted(name, value);
    }
    return watched as T;
  }

  #counted<F extends Callable>(name: string, fn: F): F {
    const called = this.#called;
    return function (this: unknown, ...values: unknown[]) {
      called.add(name);
      return Reflect.apply(fn, this, values);
    } as unknown as F;
  }

  #withCountedConstructor(name: string, base: Callable): Callable {
    return new Proxy(base, {
      construct: (target, values) => {
        this.#called.add(`${name}.constructor`);
        return Reflect.construct(target, values) as object;
      },
    });
  }

  #watchMembers(className: string, owner: object): void {
    for (const key of Reflect.ownKeys(owner)) {
      const name = `${className}.${typeof key === 'symbol' ? `[${key.description}]` : key}`;
      const property = Object.getOwnPropertyDescriptor(owner, key) as PropertyDescriptor;
      if (key === 'constructor' || key === 'prototype' || !property.configurable) continue;
      if (typeof property.get === 'function') property.get = this.#counted(name, property.get);
      else if (typeof property.value === 'function') property.value = this.#counted(name, property.value);
      else continue;
      Object.defineProperty(owner, key, property);
    }
  }
}
