import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Native } from '../native/native.ts';
import { descriptorOf } from '../proxy/kernel-sockets.ts';
import { Failure, reason } from '../run/failure.ts';

/** Which user is at the other end of a connection; undefined where the kernel does not know. */
export type PeerLookup = (socket: Socket) => number | undefined;

/**
 * Makes the lookup for `--allow-user`, and for the audit log.
 *
 * @param isRequired for `--allow-user`; the audit log then has no uid
 * @returns undefined where the kernel cannot tell, and need not: no sock_diag, or a user namespace, in which all other users look alike
 * @throws {Failure} where it cannot tell, and must
 */
export function peerLookup(native: Native, isRequired: boolean): PeerLookup | undefined {
  try {
    return makeLookup(native);
  } catch (error) {
    if (isRequired) throw error;
    return undefined;
  }
}

function makeLookup(native: Native): PeerLookup {
  if (!/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'))) {
    throw cannotTell('it runs in a user namespace', 'run it outside (systemd: no PrivateUsers), or use --issue-token instead');
  }
  try {
    native.peerUid(-1); // no socket: it only makes sure that the kernel answers
  } catch (error) {
    throw cannotTell(`sock_diag failed: ${reason(error)}`, 'allow AF_NETLINK sockets, load the kernel module inet_diag, or use --issue-token instead');
  }
  return (socket) => {
    try {
      return native.peerUid(descriptorOf(socket) ?? -1);
    } catch {
      return undefined; // unknown, which the gate refuses
    }
  };
}

function cannotTell(why: string, hint: string): Failure {
  return new Failure(`cannot tell users apart for --allow-user: ${why}`, { hint });
}
