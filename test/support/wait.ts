/** How long a test waits for one event before it fails, in milliseconds. Generous: it only delays failures, and the machine may be busy. */
export const defaultWaitMs = 120_000;

/**
 * State that tests can wait on. Its owner calls `changed()` after each change, and only then do the waiters look again:
 * no polling, no sleeping.
 */
export class Changing {
  readonly #waiters = new Set<() => void>();

  changed(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }

  /**
   * Resolves with the first result of `look` that is not undefined; rejects with what `look` throws.
   * After `timeoutMs` it rejects with a message that includes `what()`: what was awaited, and the current state.
   */
  when<T>(look: () => T | undefined, what: () => string, timeoutMs = defaultWaitMs): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(check);
      };
      const check = (): void => {
        try {
          const found = look();
          if (found === undefined) return;
          finish();
          resolve(found);
        } catch (error) {
          finish();
          reject(error);
        }
      };
      const timer = setTimeout(() => {
        finish();
        reject(new Error(`waited ${timeoutMs} ms for ${what()}`));
      }, timeoutMs);
      this.#waiters.add(check);
      check();
    });
  }
}

/** A promise that is resolved from outside, once, and whose state can be read. */
export class Once<T> {
  readonly promise: Promise<T>;
  #resolve: (value: T) => void = () => {};
  #value: { value: T } | undefined;

  constructor() {
    this.promise = new Promise<T>((resolve) => {
      this.#resolve = resolve;
    });
  }

  get value(): T | undefined {
    return this.#value?.value;
  }

  get done(): boolean {
    return this.#value !== undefined;
  }

  resolve(value: T): void {
    this.#value ??= { value };
    this.#resolve(value);
  }
}

/** `promise`; after `timeoutMs` it rejects instead, naming `what`. */
export function within<T>(promise: Promise<T>, what: string, timeoutMs = defaultWaitMs): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited ${timeoutMs} ms for ${what}`)), timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
