import { Failure } from './failure.ts';
import { quote } from './log.ts';

/** Where a service manager puts the first socket that it passes (SD_LISTEN_FDS_START of sd_listen_fds(3)). */
export const inheritedDescriptor = 3;

/**
 * Whether a service manager passed sockets to this very process. Variables that are meant for another are ignored, as
 * sd_listen_fds(3) does.
 *
 * @throws {Failure} when it passed another number of them than one
 */
export function isSocketActivated({ LISTEN_FDS: count, LISTEN_PID: pid }: NodeJS.ProcessEnv, ownPid: number): boolean {
  if (count === undefined || pid === undefined || !/^\d+$/.test(pid) || Number(pid) !== ownPid) return false;
  if (count === '1') return true;
  throw badSocket(`LISTEN_FDS is ${quote(count)}, not "1"`);
}

/** What was passed is no socket to serve on. */
export function badSocket(message: string): Failure {
  return new Failure(message, { hint: 'pass one socket that listens on 127.0.0.1 (systemd: ListenStream=127.0.0.1:8787), or none' });
}
