import { uptime } from 'node:os';

/** How often we look for a suspend at most: a look reads a file of /proc. */
const suspendCheckMs = 5_000;

/** By how much the two clocks must drift apart. They are read one after the other, on a machine that may be busy. */
const suspendDriftMs = 2_000;

/** CLOCK_BOOTTIME goes on while the machine is suspended, CLOCK_MONOTONIC does not. */
const systemClocks = { bootMs: () => uptime() * 1000, steadyMs: () => performance.now() };

/** Makes a function that tells whether the machine was suspended since it last looked, by two clocks that drift apart. */
export function suspendCheck({ bootMs, steadyMs } = systemClocks): () => boolean {
  let checkedAtMs = steadyMs();
  let driftMs = bootMs() - checkedAtMs;
  return () => {
    const nowMs = steadyMs();
    if (nowMs - checkedAtMs < suspendCheckMs) return false;
    const before = driftMs;
    checkedAtMs = nowMs;
    driftMs = bootMs() - nowMs;
    return driftMs - before > suspendDriftMs;
  };
}
