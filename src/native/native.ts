import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** How the memory that holds the key is kept from others, strongest first. */
export type Locking = 'memfd_secret' | 'mlock' | 'unlocked';

/** What the C part does for us (`native/`). Every function throws an Error with `code` and `syscall` when it fails. */
export interface Native {
  /** Zeroed memory between two inaccessible pages; it is never given back before the process ends. */
  allocate(bytes: number, locking: 'required' | 'waived'): { buffer: Buffer; kind: Locking };
  /** Overwrites with zeros; the compiler cannot leave it out. */
  wipe(buffer: Uint8Array): void;
  forbidTracing(): void;
  forbidCoreDumps(): void;
  forbidNewPrivileges(): void;
  /** Whether the starter's filter is in place (`starter_filter.c`). */
  isStartedByStarter(): boolean;
  /** Forbids, in all threads, the system calls that only the start needed (`serving_filter.c`). */
  closeStartCalls(opensLogs: boolean): void;
  /** The user at the other end of an accepted loopback connection, as the kernel knows it; undefined when nobody owns it. */
  peerUid(localAddress: string, localPort: number, remoteAddress: string, remotePort: number): number | undefined;
  /** Whether the other end of a connected socket, given by its descriptor, has closed it, read or unread. */
  hasHungUp(descriptor: number): boolean;
  /** Bytes written to a connected socket, given by its descriptor, that the other end has not acknowledged (SIOCOUTQ). */
  unacknowledgedBytes(descriptor: number): number;
  /** A connected socket, given by its descriptor, will end in a reset when it is closed (SO_LINGER with 0 s). */
  resetOnClose(descriptor: number): void;
  /** Locks an open file, given by its descriptor, until it is closed; false where another process has it (flock(2)). */
  lockFile(descriptor: number): boolean;
  /** Removes a file by its name in an open folder, which is given by its descriptor (unlinkat(2)). */
  unlinkAt(folder: number, name: string): void;
  /** What kind of socket an open descriptor is; throws ENOTSOCK or EBADF where it is none. */
  inspectSocket(descriptor: number): SocketFacts;
  /** Finds an account by name or uid (getpwnam(3), getpwuid(3)); undefined where there is none. */
  account(nameOrUid: string): Account | undefined;
}

/** A socket's properties, in the numbers of socket(2). */
export interface SocketFacts {
  family: number;
  type: number;
  protocol: number;
  isListening: boolean;
  /** Where it is bound to; '' and 0 unless it is an IPv4 socket. */
  address: string;
  port: number;
}

/** An account of this machine. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
}

/**
 * What to do where there is no addon that fits. Not `npm rebuild`: npm 12 runs no install script that was not allowed by
 * name, and says nothing about it.
 */
export const missingAddonHint = `install a C compiler, then: sh ${quoted(fileURLToPath(new URL('../../scripts/build-native.sh', import.meta.url)))}`;

/** Loads the addon that was built for this machine; undefined where there is none that fits. */
export function loadNative(): Native | undefined {
  const file = fileURLToPath(new URL(`${process.arch}.node`, import.meta.url));
  try {
    return createRequire(import.meta.url)(file) as Native;
  } catch {
    return undefined; // `locked-memory.ts` says what follows from that
  }
}

/** A word for a shell, in quotes only where it needs them. */
function quoted(word: string): string {
  return /^[\w./@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
