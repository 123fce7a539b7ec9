import type { Locking, Native } from '../native/native.ts';
import { unsafeFailure } from '../run/failure.ts';

/** Where the key is, in words for the user. */
export const custodyOf: Readonly<Record<Locking, string>> = {
  memfd_secret: 'memfd_secret',
  mlock: 'mlocked memory, which root can read',
  unlocked: 'unlocked memory, which root can read, and which may be swapped out',
};

/**
 * Allocates memory that is never swapped out or dumped. Where the kernel has memfd_secret(2), no other process can read
 * it, not even as root.
 *
 * @param isWaived the user passed --unsafe-unlocked-memory
 * @throws {Failure} with exit code 3 when memory cannot be locked and that was not waived
 */
export function lockMemory(bytes: number, native: Native, isWaived: boolean): ReturnType<Native['allocate']> {
  try {
    return native.allocate(bytes, isWaived);
  } catch (error) {
    throw unsafeFailure(
      `cannot lock ${bytes / 1024} KiB of memory (${(error as Error).message})`,
      'raise RLIMIT_MEMLOCK to 64 KiB (ulimit -l 64, systemd: LimitMEMLOCK=64K), or allow memfd_secret or mlock in the seccomp profile; --unsafe-unlocked-memory runs without it',
    );
  }
}
