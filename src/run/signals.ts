import { unsafeFailure } from './failure.ts';

/** The signals that stop the daemon, with their numbers on Linux. */
const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/**
 * Keeps ignoring those stop signals that were ignored when the daemon was started (by nohup, or as a shell's background
 * job), as POSIX programs do. Node resets every signal to its default at start; the starter has noted what it was before
 * (`../native/starter.c`, a mask in hexadecimal).
 *
 * @returns the others
 * @throws {Failure} with exit code 3 where there was no starter. It passes on few variables, and no flag for node but the
 *         launcher's; to clean up here would come too late, see `../launcher.sh`.
 */
export function stopSignals(): NodeJS.Signals[] {
  const mask = process.env['RESPONSES_API_PROXY_IGNORED_SIGNALS'];
  if (mask === undefined) throw unsafeFailure('its starter did not start it', 'start it as responses-api-proxy, not by node');
  return (Object.entries(numbers) as [NodeJS.Signals, number][]).flatMap(([signal, number]) => {
    if (((BigInt(`0x${mask}`) >> BigInt(number - 1)) & 1n) === 0n) return [signal];
    process.on(signal, () => {}); // how a node program ignores a signal
    return [];
  });
}
