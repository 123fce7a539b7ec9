import { setTimeout as sleep } from 'node:timers/promises';

/** How long nothing has to move. Nothing announces that something has stopped. */
const stillMs = 300;

/**
 * Resolves once `moved` has not changed for a while, with its value. On a busy machine that may be too early: then a test shows less,
 * but does not fail.
 * @param moved how much has passed; it must be above 0 to count as stopped
 */
export async function standstill(moved: () => number): Promise<number> {
  let last = -1;
  for (;;) {
    const now = moved();
    if (now === last && now > 0) return now;
    last = now;
    await sleep(stillMs);
  }
}
