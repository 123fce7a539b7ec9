import { type Native, type SocketFacts, missingAddonHint } from '../native/native.ts';
import { Failure, reason } from './failure.ts';
import { foreign } from './log.ts';

/** Where a service manager puts the first socket that it passes (SD_LISTEN_FDS_START of sd_listen_fds(3)). */
export const inheritedDescriptor = 3;

/** The numbers of Linux: AF_*, SOCK_STREAM, IPPROTO_TCP. */
const families: Readonly<Record<number, string>> = { 1: 'a UNIX', 2: 'an IPv4', 10: 'an IPv6', 16: 'a netlink', 40: 'a vsock' };
const ipv4 = 2;
const streamType = 1;
const tcp = 6;

const loopback = '127.0.0.1';

const hint = 'pass one socket that listens on 127.0.0.1 (systemd: ListenStream=127.0.0.1:8787), or none';

/**
 * Whether a service manager passed sockets to this very process. Variables that are meant for another are ignored, as
 * sd_listen_fds(3) does.
 *
 * @throws {Failure} when it passed another number of them than one
 */
export function isSocketActivated({ LISTEN_FDS: count, LISTEN_PID: pid }: NodeJS.ProcessEnv, ownPid: number): boolean {
  if (count === undefined || pid === undefined || !/^\d+$/.test(pid) || Number(pid) !== ownPid) return false;
  if (count === '1') return true;
  throw new Failure(`LISTEN_FDS is ${foreign(count)}, not "1"`, { hint });
}

/**
 * Checks that the inherited descriptor is one TCP socket that listens on 127.0.0.1.
 *
 * @throws {Failure} that says what it is instead
 */
export function checkInheritedSocket(native: Native | undefined): void {
  if (native === undefined) {
    throw new Failure('cannot tell what the inherited socket is: its native part is missing', { hint: missingAddonHint });
  }
  const problem = problemOf(inspect(native));
  if (problem !== undefined) throw new Failure(`cannot serve on the inherited descriptor ${inheritedDescriptor} (LISTEN_FDS): it is ${problem}`, { hint });
}

function inspect(native: Native): SocketFacts | string {
  try {
    return native.inspectSocket(inheritedDescriptor);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EBADF') return 'not open';
    return code === 'ENOTSOCK' ? 'not a socket' : `of an unknown kind: ${reason(error)}`;
  }
}

function problemOf(facts: SocketFacts | string): string | undefined {
  if (typeof facts === 'string') return facts;
  const { family, type, protocol, isListening, address, port } = facts;
  if (family !== ipv4) return `${families[family] ?? 'another kind of'} socket`;
  if (type !== streamType || protocol !== tcp) return 'not a TCP socket';
  if (address !== loopback) return `bound to ${address}:${port}, not to ${loopback}`;
  return isListening ? undefined : 'not listening';
}
