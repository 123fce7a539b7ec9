import { uptime } from 'node:os';

/** How often we look for a suspend at most: a look reads a file of /proc. */
const suspendCheckMs = 5_000;

/** By how much the two clocks must drift apart. They are read one after the other, on a machine that may be busy. */
const suspendDriftMs = 2_000;

/** CLOCK_BOOTTIME goes on while the machine is suspended, CLOCK_MONOTONIC does not. */
const systemClocks = { bootMs: () => uptime() * 1000, steadyMs: () => performance.now() };

/** Notices that the machine was suspended, by two clocks that drift apart. */
export class SuspendCheck {
  readonly #clocks: typeof systemClocks;
  #checkedAtMs = -Infinity;
  #driftMs = Infinity;

  constructor(clocks = systemClocks) {
    this.#clocks = clocks;
    this.wasSuspended();
  }

  /** Whether there was a suspend since the last look. */
  wasSuspended(): boolean {
    const nowMs = this.#clocks.steadyMs();
    if (nowMs - this.#checkedAtMs < suspendCheckMs) return false;
    const before = this.#driftMs;
    this.#checkedAtMs = nowMs;
    this.#driftMs = this.#clocks.bootMs() - nowMs;
    return this.#driftMs - before > suspendDriftMs;
  }
}
