import { readFileSync, readdirSync } from 'node:fs';
import inspector from 'node:inspector';
import { fileURLToPath } from 'node:url';
import { type Native, loadNative } from '../native/native.ts';
import { reason, unsafeFailure } from './failure.ts';

/**
 * Checks that no other program watches this process: no inspector (a SIGUSR1 may have come before the listener), and no
 * tracer. Threads are traced one by one, and each can read all of the process's memory.
 *
 * @throws {Failure} with exit code 3
 */
export function checkUntraced(): void {
  if (inspector.url() !== undefined) throw unsafeFailure('a debugger port is open', 'start it again, without --inspect or SIGUSR1');
  for (const thread of readdirSync('/proc/self/task')) {
    const tracer = tracerOf(thread);
    if (tracer !== '0') throw unsafeFailure(`process ${tracer} is tracing it`, 'start it without a debugger');
  }
}

/** The pid of a thread's tracer, '0' for none. */
function tracerOf(thread: string): string {
  try {
    return /^TracerPid:\s*(\d+)$/m.exec(readFileSync(`/proc/self/task/${thread}/status`, 'latin1'))?.[1] ?? '?';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return '0'; // the thread has ended since
    throw error;
  }
}

/**
 * Closes the process to other processes of its user: no ptrace, no /proc/PID/mem, no core dump, no setuid helper.
 *
 * @returns the addon, without which none of it is possible
 * @throws {Failure} with exit code 3 when that fails
 */
export function harden(): Native {
  let native: Native;
  try {
    native = loadNative();
  } catch {
    // Not `npm rebuild`: npm 12 silently skips install scripts that were not allowed by name.
    const script = fileURLToPath(new URL('../../scripts/build-native.sh', import.meta.url)).replaceAll("'", "'\\''");
    throw unsafeFailure('its native part is missing or does not load', `install a C compiler, then: sh '${script}'`);
  }
  try {
    native.harden();
  } catch (error) {
    throw unsafeFailure(`cannot forbid ${(error as Error).message}: ${reason(error)}`, 'a seccomp profile may refuse prctl or setrlimit; allow them');
  }
  return native;
}
