// Whether the scripts use every public function: which of the package's exports, methods and accessors they call.

import type { Tools } from './script.js';

type Packages = Pick<Tools, 'core' | 'inspect' | 'metrics'>;
// biome-ignore lint/complexity/noBannedTypes: any function at all.
type Callable = Function;

/** What needs no script: errors, and what is by its documentation the same as another method or calls nothing. */
const exempt =
  /^DmaBufError|\.(constructor|toJSON|hint)$|Symbol\((Symbol\.(async)?[dD]ispose|nodejs|Symbol\.toStringTag)/;

const isClass = (value: Callable): boolean => /^class\b/.test(Function.prototype.toString.call(value));

export class Coverage {
  readonly #all = new Set<string>();
  readonly #called = new Set<string>();
  /** The packages as scripts shall have them. */
  readonly packages: Packages;

  constructor({ core, inspect, metrics }: Packages) {
    this.packages = {
      core: this.#watched(core),
      inspect: this.#watched(inspect),
      metrics: this.#watched(metrics),
    };
  }

  /** What no script has called so far. */
  missing(): string[] {
    return [...this.#all].filter((name) => !this.#called.has(name) && !exempt.test(name));
  }

  #watched<T extends object>(module: T): T {
    const watched: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(module)) {
      if (typeof value !== 'function') watched[name] = value;
      else if (isClass(value)) {
        this.#watchMembers(name, value);
        this.#watchMembers(name, value.prototype);
        watched[name] = value;
      } else watched[name] = this.#counted(name, value);
    }
    return watched as T;
  }

  #counted<F extends Callable>(name: string, fn: F): F {
    const called = this.#called;
    this.#all.add(name);
    return function (this: unknown, ...values: unknown[]) {
      called.add(name);
      return Reflect.apply(fn, this, values);
    } as unknown as F;
  }

  #watchMembers(className: string, owner: object): void {
    for (const key of Reflect.ownKeys(owner)) {
      const name = `${className}.${String(key)}`;
      const property = Object.getOwnPropertyDescriptor(owner, key) as PropertyDescriptor;
      if (key === 'constructor' || key === 'prototype' || !property.configurable) continue;
      if (typeof property.get === 'function') property.get = this.#counted(name, property.get);
      else if (typeof property.value === 'function') property.value = this.#counted(name, property.value);
      else continue;
      Object.defineProperty(owner, key, property);
    }
  }
}
