/** How long a test waits for any one event before it fails, in milliseconds. */
export const defaultWaitMs = 8_000;

/**
 * Something that changes now and then, and on whose state tests can wait.
 * Its owner calls `changed()` after each change; waiters look again then, and only then: no polling, no sleeping.
 */
export class Changing {
  readonly #waiters = new Set<() => void>();

  changed(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }

  /**
   * Resolves with what `look` returns as soon as that is not undefined, rejects with what it throws,
   * and rejects after `timeoutMs` with a message made of `what`, which says what was waited for and what is there instead.
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

/** A promise which anyone may resolve, once, and which knows whether it has been. */
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

/** `promise`, or a rejection that names `what` after `timeoutMs`. */
export function within<T>(promise: Promise<T>, what: string, timeoutMs = defaultWaitMs): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited ${timeoutMs} ms for ${what}`)), timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
