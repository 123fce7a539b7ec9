import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

import { cpuSeconds, familyOf, ticksPerSecond } from './process.ts';

/** How much of the machine other programs may take before a run counts as disturbed. */
const foreignShare = 0.06;

/** Repeats runs that other programs on this machine have disturbed, as long as there is time for it. */
export class Patience {
  #leftMs: number;
  #disturbed = 0;
  #runs = 0;

  /** @param ms how much time repetitions may take in all */
  constructor(ms: number) {
    this.#leftMs = ms;
  }

  /** How many runs count that were disturbed, since the time was used up. */
  get disturbed(): number {
    return this.#disturbed;
  }

  /** How many runs count in all. */
  get runs(): number {
    return this.#runs;
  }

  /** Measures until nobody disturbs it; returns what the last run brought. */
  async quietly<T>(measure: () => Promise<T>): Promise<T> {
    this.#runs += 1;
    for (;;) {
      const startedAt = performance.now();
      const foreignBefore = foreignSeconds();
      const result = await measure();
      const ms = performance.now() - startedAt;
      const isDisturbed = foreignSeconds() - foreignBefore > foreignShare * cpus().length * ms / 1000;
      if (!isDisturbed) return result;
      if (this.#leftMs < ms) {
        this.#disturbed += 1;
        return result;
      }
      this.#leftMs -= ms;
    }
  }
}

/** CPU time that went neither to us nor to what we have started; what a hypervisor took from the machine is in it. */
function foreignSeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (/^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1] ?? '').split(' ').map(Number);
  return (user + nice + system + irq + softirq + steal) / ticksPerSecond - cpuSeconds(familyOf(process.pid));
}
