import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { type Native, missingAddonHint } from '../native/native.ts';
import { exitCodes } from '../run/exit-codes.ts';
import { Failure, reason } from '../run/failure.ts';

/**
 * Makes the lookup for `--allow-user`: which user is at the other end of a connection?
 *
 * @throws {Failure} where the kernel cannot tell: no sock_diag, or a user namespace, in which all other users look alike
 */
export function peerLookup(native: Native | undefined): (socket: Socket) => number | undefined {
  if (native === undefined) throw cannotTell('its native part is missing', missingAddonHint);
  if (!/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'))) {
    throw cannotTell('it runs in a user namespace', 'run it outside (systemd: no PrivateUsers), or use --issue-token instead');
  }
  try {
    native.peerUid('127.0.0.1', 1, '127.0.0.1', 1);
  } catch (error) {
    throw cannotTell(`sock_diag failed: ${reason(error)}`, 'allow AF_NETLINK sockets, load the kernel module inet_diag, or use --issue-token instead');
  }
  return ({ localAddress, localPort, remoteAddress, remotePort }) => {
    if (localAddress === undefined || localPort === undefined || remoteAddress === undefined || remotePort === undefined) return undefined;
    try {
      return native.peerUid(localAddress, localPort, remoteAddress, remotePort);
    } catch {
      return undefined; // unknown, which the gate refuses
    }
  };
}

/** The same lookup for the record, where knowing is optional: undefined where the kernel cannot tell. */
export function peerLookupIfAny(native: Native | undefined): ReturnType<typeof peerLookup> | undefined {
  try {
    return peerLookup(native);
  } catch {
    return undefined;
  }
}

function cannotTell(why: string, hint: string): Failure {
  return new Failure(`cannot tell users apart for --allow-user: ${why}`, { hint, exitCode: exitCodes.failed });
}
