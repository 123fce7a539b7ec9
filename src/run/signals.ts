/** The signals that stop the daemon, with their numbers on Linux. */
const stopSignals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

export type StopSignal = keyof typeof stopSignals;

/** A request that the daemon stop, by a signal or by a client. */
export interface StopRequest {
  /** Resolves with the first one. */
  readonly requested: Promise<void>;
  request(): void;
}

/**
 * Keeps ignoring the stop signals that were ignored when the daemon was started (by nohup, or as a shell's background
 * job), as POSIX programs do. Node resets every signal to its default at start.
 *
 * @param mask `SigIgn` of /proc/PID/status before node started: a bit mask in hexadecimal
 * @returns the signals that stay ignored
 */
export function keepIgnoring(mask: string): ReadonlySet<StopSignal> {
  const bits = BigInt(`0x${mask}`);
  const ignored = new Set<StopSignal>();
  for (const [signal, number] of Object.entries(stopSignals) as Array<[StopSignal, number]>) {
    if (((bits >> BigInt(number - 1)) & 1n) === 0n) continue;
    ignored.add(signal);
    process.on(signal, () => {}); // how a node program ignores a signal
  }
  return ignored;
}

/**
 * Listens for the signals that ask the daemon to stop. Before this call they end the process, as they should while it
 * waits for the key.
 *
 * @param onSecondSignal called for a signal that comes after a stop was requested
 */
export function listenForStop(ignored: ReadonlySet<StopSignal>, onSecondSignal: () => void): StopRequest {
  let resolve = (): void => {};
  let isRequested = false;
  const requested = new Promise<void>((resolvePromise) => (resolve = resolvePromise));
  const request = (): void => {
    isRequested = true;
    resolve();
  };
  for (const signal of Object.keys(stopSignals) as StopSignal[]) {
    if (!ignored.has(signal)) process.on(signal, () => (isRequested ? onSecondSignal() : request()));
  }
  return { requested, request };
}
