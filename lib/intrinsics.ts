// The engine's own functions, read when this file is loaded. Programs replace them, by mistake or to observe calls. Such
// a replacement must not get internal objects of the package, prevent it from closing what it has opened, or keep a
// promise pending. Where none of this can happen, the package calls the current functions.

export const OwnPromise: PromiseConstructor = Promise;
export const resolved: <T>(value: T) => Promise<T> = Promise.resolve.bind(Promise) as never;
export const rejected: (error: unknown) => Promise<never> = Promise.reject.bind(Promise) as never;

export const apply: typeof Reflect.apply = Reflect.apply;
export const isArray: typeof Array.isArray = Array.isArray;
export const isInteger: typeof Number.isInteger = Number.isInteger;
export const assign: typeof Object.assign = Object.assign;
export const freeze: typeof Object.freeze = Object.freeze;
export const ceil: typeof Math.ceil = Math.ceil;
export const max: typeof Math.max = Math.max;
export const min: typeof Math.min = Math.min;

const call = Function.prototype.call;

/** A method as a function of the object. */
function uncurried<This, Values extends unknown[], Result>(
  method: (this: This, ...values: Values) => Result,
): (self: This, ...values: Values) => Result {
  return call.bind(method) as never;
}

type Registry<T> = FinalizationRegistry<T>;
const registryPrototype = FinalizationRegistry.prototype as Registry<unknown>;

export const register: <T>(registry: Registry<T>, target: WeakKey, held: T, token?: WeakKey) => void =
  uncurried(registryPrototype.register) as never;
export const unregister: (registry: Registry<never>, token: WeakKey) => void = uncurried(
  registryPrototype.unregister,
) as never;

/** The items of an array, or the first `length`, each read once: a second read might return something else. */
export function itemsOf<T>(array: readonly T[], length: number = array.length): T[] {
  const items: T[] = [];
  for (let index = 0; index < length; index++) items[index] = array[index] as T;
  return items;
}
