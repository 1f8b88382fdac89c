// Puts other functions in the place of the engine's own, as programs do that patch prototypes: they throw, lie, or note what
// they are given. Only what the package itself calls is concerned, since Node.js does not survive some of these either.

/** A function of the engine's: a method, or one half of an accessor. */
export interface Intrinsic {
  readonly name: string;
  readonly owner: object;
  readonly key: PropertyKey;
  readonly half: 'value' | 'get' | 'set';
}

/** How a patched function behaves: it throws, does nothing at all, or works and says something else. */
export type Manner = 'throws' | 'does nothing' | 'lies';

export const manners: readonly Manner[] = ['throws', 'does nothing', 'lies'];

// biome-ignore lint/complexity/noBannedTypes: any function at all.
type Callable = Function;

const { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
const { captureStackTrace } = Error;

function prototypesOfIterators(): [string, object][] {
  const of = (iterator: object): object => getPrototypeOf(iterator) as object;
  const list: [string, object][] = [
    ['ArrayIterator', of([][Symbol.iterator]())],
    ['MapIterator', of(new Map().entries())],
    ['SetIterator', of(new Set().values())],
    ['StringIterator', of(''[Symbol.iterator]())],
    ['RegExpStringIterator', of(''.matchAll(/x/g))],
  ];
  list.push(['Iterator', of(list[0]?.[1] as object)]);
  return list;
}

/** What has functions to patch, by its name. */
function roots(): [string, object][] {
  const classes: Record<string, object> = {
    AbortController,
    AbortSignal,
    Array,
    ArrayBuffer,
    BigInt,
    BigUint64Array,
    Buffer,
    DataView,
    Error,
    EventTarget,
    FinalizationRegistry,
    Float64Array,
    Function,
    Map,
    Number,
    Object,
    Promise,
    RegExp,
    Set,
    SharedArrayBuffer,
    String,
    Symbol,
    TypedArray: getPrototypeOf(Uint8Array) as object,
    Uint8Array,
    WeakMap,
    WeakRef,
    WeakSet,
  };
  const list: [string, object][] = Object.entries({ Atomics, JSON, Math, Reflect });
  for (const [name, type] of Object.entries(classes)) {
    list.push([name, type], [`${name}.prototype`, (type as Callable).prototype]);
  }
  return [...list, ...prototypesOfIterators()];
}

function intrinsicsOf(name: string, owner: object): Intrinsic[] {
  const list: Intrinsic[] = [];
  for (const key of ownKeys(owner)) {
    const property = getOwnPropertyDescriptor(owner, key) as PropertyDescriptor;
    if (property.configurable !== true) continue;
    const full = `${name}.${String(key)}`;
    for (const half of ['value', 'get', 'set'] as const) {
      const isClass = half === 'value' && key === 'constructor';
      if (typeof property[half] !== 'function' || isClass) continue;
      list.push({ name: half === 'value' ? full : `${half} ${full}`, owner, key, half });
    }
  }
  return list;
}

/** Every function of the engine that prototypes and constructors have. */
export const intrinsics: readonly Intrinsic[] = roots().flatMap(([name, owner]) => intrinsicsOf(name, owner));

/** Whether a patch is at work: what it uses itself is not patched. */
let isInside = false;
/** Whether patches do anything. */
let isOn = false;

/** Makes the patches begin to work, or no longer do anything. */
export function setPatching(on: boolean): void {
  isOn = on;
}

/** The site of what nobody's code calls: the engine asks for `then` when an async function returns a promise. */
export const engine = 'the engine';

/** Where in the package's own code the patch was called, or the engine was that calls it; undefined for other code. */
function siteOf(patch: Callable): string | undefined {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 3;
  const site = { stack: '' };
  captureStackTrace(site, patch);
  const { stack } = site;
  Error.stackTraceLimit = limit;
  if (!stack.includes('\n')) return engine;
  if (!stack.includes('/dist/package/')) return undefined;
  const caller = stack.split('\n').find((line, index) => index > 0 && !line.endsWith('(<anonymous>)'));
  return caller?.includes('/dist/package/') ? caller.slice(caller.lastIndexOf('/') + 1, -1) : undefined;
}

type OnCall = (self: unknown, values: unknown[], original: Callable, site: string) => unknown;

/** Patches a function; returns how to lift the patch. */
function patch({ owner, key, half }: Intrinsic, onCall: OnCall): () => void {
  const property = getOwnPropertyDescriptor(owner, key) as PropertyDescriptor;
  const original = property[half] as Callable;
  const patched = function (this: unknown, ...values: unknown[]): unknown {
    if (isInside || !isOn) return apply(original, this, values);
    isInside = true;
    let site: string | undefined;
    try {
      site = siteOf(patched);
    } finally {
      isInside = false;
    }
    return site === undefined ? apply(original, this, values) : onCall(this, values, original, site);
  };
  defineProperty(owner, key, { ...property, [half]: patched });
  return () => void defineProperty(owner, key, property);
}

/** What a patch throws. */
export class PatchError extends Error {
  override name = 'PatchError';
}

/** Something else of the same kind. */
function lieOf(truth: unknown): unknown {
  if (typeof truth === 'boolean') return !truth;
  if (typeof truth === 'number') return truth * 2 + 4096;
  if (typeof truth === 'bigint') return truth + (1n << 70n);
  if (typeof truth === 'string') return `\0${'x'.repeat(5000)}`;
  if (typeof truth === 'function') return () => undefined;
  if (Array.isArray(truth)) return [];
  if (ArrayBuffer.isView(truth)) return new Uint8Array(0);
  if (truth instanceof Promise) return new Promise(() => {});
  if (truth !== null && typeof truth === 'object' && 'next' in truth) return [][Symbol.iterator]();
  // The opposite is an iteration that never ends, which nobody can do anything about.
  if (truth !== null && typeof truth === 'object' && 'done' in truth) return { done: true, value: undefined };
  return typeof truth === 'object' ? {} : truth;
}

/** A place in the package that calls a function of the engine's. */
export interface Use {
  readonly intrinsic: Intrinsic;
  readonly site: string;
}

/** Has a function misbehave where the package uses it; returns how to lift the patch. */
export function misbehave(use: Use, manner: Manner): () => void {
  return patch(use.intrinsic, (self, values, original, site) => {
    if (site !== use.site) return apply(original, self, values);
    if (manner === 'throws') throw new PatchError(use.intrinsic.name);
    if (manner === 'does nothing') return undefined;
    const truth = apply(original, self, values);
    isInside = true;
    try {
      return lieOf(truth);
    } finally {
      isInside = false;
    }
  });
}

/**
 * Patches all functions so that they note where the package calls them, and with what; returns how to lift the patches.
 *
 * @param onUse Called with each use, and with what is internal of what the function was given.
 * @param secretOf What an object is, where nobody outside the package may get it.
 */
export function observe(
  secretOf: (value: unknown) => string | undefined,
  onUse: (use: Use, secrets: readonly string[]) => void,
): () => void {
  const lifts = intrinsics.map((intrinsic) =>
    patch(intrinsic, (self, values, original, site) => {
      isInside = true;
      try {
        const secrets = [self, ...values].map(secretOf).filter((secret) => secret !== undefined);
        onUse({ intrinsic, site }, secrets as string[]);
      } finally {
        isInside = false;
      }
      return apply(original, self, values);
    }),
  );
  return () => {
    for (const lift of lifts) lift();
  };
}
