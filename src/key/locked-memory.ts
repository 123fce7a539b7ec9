import { exitCodes } from '../run/exit-codes.ts';
import { Failure } from '../run/failure.ts';
import { hardeningSteps } from '../run/hardening.ts';
import { type Locking, type Native, missingAddonHint } from '../native/native.ts';

/** Memory that may hold a secret. */
export interface LockedMemory {
  readonly buffer: Buffer;
  wipe(): void;
}

const custodies: Record<Locking, string> = {
  memfd_secret: 'memfd_secret',
  mlock: 'mlocked memory, which root can read',
  unlocked: 'unlocked memory, which root can read, and which may be swapped out',
};

const missingAddon = 'its native part is missing or does not load';

/**
 * Allocates memory that is never swapped out or dumped. Where the kernel has memfd_secret(2), no other process can read
 * it, not even as root.
 *
 * @param native undefined where the addon could not be loaded
 * @param isWaived the user passed --unsafe-unlocked-memory
 * @returns the memory; in words, where the key is in it; and the waived protections that it lacks
 * @throws {Failure} with exit code 3 when memory cannot be locked and that was not waived
 */
export function lockMemory(bytes: number, native: Native | undefined, isWaived: boolean): { memory: LockedMemory; custody: string; waived: string[] } {
  if (native === undefined) {
    if (!isWaived) {
      throw unsafe(missingAddon, missingAddonHint);
    }
    const buffer = Buffer.alloc(bytes);
    const waived = ['locked memory', ...Object.values(hardeningSteps)].map(withoutAddon);
    return { memory: { buffer, wipe: () => buffer.fill(0) }, custody: 'unlocked memory, which root and its own user can read, and which may be swapped out', waived };
  }
  const { buffer, kind } = allocate(bytes, native, isWaived);
  const waived = kind === 'unlocked' ? ['the key may be written to swap'] : [];
  return { memory: { buffer, wipe: () => native.wipe(buffer) }, custody: custodies[kind], waived };
}

function allocate(bytes: number, native: Native, isWaived: boolean): ReturnType<Native['allocate']> {
  try {
    return native.allocate(bytes, isWaived ? 'waived' : 'required');
  } catch (error) {
    throw unsafe(
      `cannot lock ${bytes / 1024} KiB of memory (${(error as Error).message})`,
      'raise RLIMIT_MEMLOCK to 64 KiB (ulimit -l 64, systemd: LimitMEMLOCK=64K), or allow memfd_secret or mlock in the seccomp profile',
    );
  }
}

function withoutAddon(what: string): string {
  return `${what}: not provided, because ${missingAddon}`;
}

function unsafe(message: string, hint: string): Failure {
  return new Failure(message, { hint: `${hint}; --unsafe-unlocked-memory runs without it`, exitCode: exitCodes.unsafe });
}
