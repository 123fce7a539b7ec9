import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** How the key's memory is protected, strongest first. */
export type Locking = 'memfd_secret' | 'mlock' | 'unlocked';

/** The C addon. Every function throws an Error with `errno` when it fails. */
export interface Native {
  /** Zeroed memory between two inaccessible pages. It is not freed before the process ends. Where it fails, the message says what failed. */
  allocate(bytes: number, isWaived: boolean): { buffer: Buffer; kind: Locking };
  /** Forbids core dumps, new privileges and tracing. Where one fails, the message says which. */
  harden(): void;
  /** Whether the starter's filter is in place (`starter_filter.c`). */
  isStartedByStarter(): boolean;
  /** Forbids, in all threads, all system calls but those that serving needs (`serving_filter.c`). */
  forbidStartCalls(opensLogs: boolean, removesFile: boolean): void;
  /** The uid at the other end of an accepted loopback connection, from the kernel; undefined if no process owns that socket, or it is none. */
  peerUid(descriptor: number): number | undefined;
  /** What poll(2) says of a connected socket, in its numbers: POLLRDHUP, POLLHUP, POLLERR. */
  pollEnds(descriptor: number): number;
  /** Bytes written to a connected socket that the peer has not acknowledged (SIOCOUTQ). */
  unacknowledgedBytes(descriptor: number): number;
  /** Makes closing a connected socket send a reset (SO_LINGER with 0 s). */
  resetOnClose(descriptor: number): void;
  /** Locks an open file until it is closed (flock(2)); 0 if another process holds the lock. */
  lockFile(descriptor: number): number;
  /** Binds a socket to a port of [::1], without listening (`descriptors.c`). The descriptor is the caller's to close. */
  holdPort(port: number): number;
  /** Finds an account by name or uid (getpwnam(3), getpwuid(3)); undefined if there is none. */
  account(nameOrUid: string): Account | undefined;
}

/** An account of this machine. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
}

/**
 * Loads the addon for this machine.
 *
 * @throws when it is missing or does not load
 */
export function loadNative(): Native {
  return createRequire(import.meta.url)(fileURLToPath(new URL(`${process.arch}.node`, import.meta.url))) as Native;
}
