/** The signals that stop the daemon, with their numbers on Linux. */
const stopSignals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

type StopSignal = keyof typeof stopSignals;

/** Somebody's wish that the daemon stop: a signal's, or a client's. */
export interface StopRequest {
  /** Resolves with the first request. */
  readonly made: Promise<void>;
  make(): void;
}

/**
 * Listens for the signals that ask the daemon to stop. One that was ignored when it was started (by nohup, or by a
 * shell's background job) stays ignored, as POSIX programs do.
 *
 * @param ignoredSignals the signals ignored at start, as `SigIgn` in /proc/PID/status has them: a bit mask in hexadecimal
 * @param onImpatience called for a signal that comes when a stop was requested already
 */
export function listenForStop(ignoredSignals: string, onImpatience: () => void): StopRequest {
  let resolve = (): void => {};
  let isMade = false;
  const made = new Promise<void>((resolvePromise) => (resolve = resolvePromise));
  const make = (): void => {
    isMade = true;
    resolve();
  };
  const ignored = BigInt(`0x${ignoredSignals}`);
  for (const signal of Object.keys(stopSignals) as StopSignal[]) {
    const isIgnored = ((ignored >> BigInt(stopSignals[signal] - 1)) & 1n) === 1n;
    // A listener that does nothing is how a node program ignores a signal.
    process.on(signal, isIgnored ? () => {} : () => (isMade ? onImpatience() : make()));
  }
  return { made, make };
}
