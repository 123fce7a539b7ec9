import { uptime } from 'node:os';

/** How often we look for a suspend at most: a look reads a file of /proc. */
const suspendCheckMs = 5_000;

/** By how much the two clocks must drift apart. They are read one after the other, on a machine that may be busy. */
const suspendDriftMs = 2_000;

/** Two clocks: one goes on while the machine is suspended (CLOCK_BOOTTIME), the other does not (CLOCK_MONOTONIC). In ms. */
export interface Clocks {
  bootMs(): number;
  steadyMs(): number;
}

const systemClocks: Clocks = { bootMs: () => uptime() * 1000, steadyMs: () => performance.now() };

/** Notices that the machine was suspended, by two clocks that drift apart. */
export class SuspendCheck {
  readonly #clocks: Clocks;
  #checkedAtMs: number;
  #driftMs: number;

  constructor(clocks: Clocks = systemClocks) {
    this.#clocks = clocks;
    this.#checkedAtMs = clocks.steadyMs();
    this.#driftMs = clocks.bootMs() - this.#checkedAtMs;
  }

  /** Whether there was a suspend since the last look. */
  wasSuspended(): boolean {
    const nowMs = this.#clocks.steadyMs();
    if (nowMs - this.#checkedAtMs < suspendCheckMs) return false;
    this.#checkedAtMs = nowMs;
    const driftMs = this.#clocks.bootMs() - nowMs;
    const grown = driftMs - this.#driftMs;
    this.#driftMs = driftMs;
    return grown > suspendDriftMs;
  }
}
