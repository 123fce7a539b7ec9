import { unsafeFailure } from './failure.ts';

/** The signals that stop the daemon. */
const stopping = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

/**
 * Keeps ignoring those stop signals that were ignored when the daemon was started (by nohup, or as a shell's background
 * job), as POSIX programs do. Node resets every signal to its default at start; the starter has told what it was before
 * (`../native/starter.c`).
 *
 * @returns the others
 * @throws {Failure} with exit code 3 where there was no starter. It passes on few variables, and no flag for node but the
 *         launcher's; to clean up here would come too late, see `../launcher.sh`.
 */
export function stopSignals(): NodeJS.Signals[] {
  const ignored = process.env['RESPONSES_API_PROXY_IGNORED_SIGNALS']?.split(' ');
  if (ignored === undefined) throw unsafeFailure('its starter did not start it', 'start it as responses-api-proxy, not by node');
  for (const signal of stopping) if (ignored.includes(signal)) process.on(signal, () => {}); // how a node program ignores a signal
  return stopping.filter((signal) => !ignored.includes(signal));
}
