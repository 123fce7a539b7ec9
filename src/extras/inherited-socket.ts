import { constants } from 'node:os';
import type { Native, SocketFacts } from '../native/native.ts';
import { Failure, reason } from '../run/failure.ts';
import { inheritedDescriptor, socketHint } from '../run/inherited-socket.ts';

/** The numbers of Linux: AF_*, SOCK_STREAM, IPPROTO_TCP. */
const families: Readonly<Record<number, string>> = { 1: 'a UNIX', 2: 'an IPv4', 10: 'an IPv6', 16: 'a netlink', 40: 'a vsock' };
const ipv4 = 2;
const streamType = 1;
const tcp = 6;

const loopback = '127.0.0.1';

/**
 * Checks that the inherited descriptor is one TCP socket that listens on 127.0.0.1.
 *
 * @throws {Failure} that says what it is instead
 */
export function checkInheritedSocket(native: Native): void {
  const problem = problemOf(inspect(native));
  if (problem !== undefined) throw new Failure(`cannot serve on the inherited descriptor ${inheritedDescriptor} (LISTEN_FDS): it is ${problem}`, { hint: socketHint });
}

function inspect(native: Native): SocketFacts | string {
  try {
    return native.inspectSocket(inheritedDescriptor);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === -constants.errno.EBADF) return 'not open';
    return errno === -constants.errno.ENOTSOCK ? 'not a socket' : `of an unknown kind: ${reason(error)}`;
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
