import { readFileSync, readdirSync } from 'node:fs';
import inspector from 'node:inspector';
import { fileURLToPath } from 'node:url';
import { type Native, loadNative } from '../native/native.ts';
import { exitCodes } from './exit-codes.ts';
import { Failure, reason } from './failure.ts';
import { foreign } from './log.ts';

/** All that the starter passes on (`../native/starter.c`). Any other variable means that node was started without it. */
const allowedEnvironment = new Set([
  'RESPONSES_API_PROXY_IGNORED_SIGNALS',
  'RESPONSES_API_PROXY_FOLDERS',
  'RESPONSES_API_PROXY_LANDLOCK',
  'HTTPS_PROXY',
  'https_proxy',
  'NO_PROXY',
  'no_proxy',
  'LISTEN_FDS',
  'LISTEN_PID',
]);

/** The flags that the launcher gives node. (Node's warnings would bypass our log and print a stack.) */
const allowedNodeOptions = new Set(['--no-warnings', '--inspect-port=192.0.2.1:9229', '--single-threaded-gc']);

/**
 * Checks that no other program watches this process: no inspector (a SIGUSR1 may have come before the listener), and no
 * tracer of any thread.
 *
 * @throws {Failure} with exit code 3
 */
export function checkUntraced(): void {
  if (inspector.url() !== undefined) throw unsafe('a debugger port is open', 'start it again, without --inspect or SIGUSR1');
  for (const thread of readdirSync('/proc/self/task')) {
    const tracer = tracerOf(thread);
    if (tracer !== '0') throw unsafe(`process ${tracer} is tracing it`, 'start it without a debugger');
  }
}

/** The pid of a thread's tracer, '0' for none. Threads are traced one by one, and each can read all of the process's memory. */
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
 * Checks that the launcher started this process: with its environment and its flags for node only.
 * Cleaning up here would come too late, see `../launcher.sh`.
 *
 * @throws {Failure} with exit code 3
 */
export function checkCleanStart(): void {
  const hint = 'start it as responses-api-proxy, not by node';
  const stray = Object.keys(process.env).find((name) => !allowedEnvironment.has(name));
  if (stray !== undefined) throw unsafe(`its environment holds ${foreign(stray)}`, hint);
  const option = process.execArgv.find((argument) => !allowedNodeOptions.has(argument));
  if (option !== undefined) throw unsafe(`node was started with ${foreign(option)}`, hint);
}

/**
 * Closes the process to other processes of its user: no ptrace, no /proc/PID/mem, no core dump, no setuid helper.
 *
 * @returns the addon, without which none of it is possible
 * @throws {Failure} with exit code 3 when that fails
 */
export function harden(): Native {
  const native = load();
  try {
    native.harden();
    return native;
  } catch (error) {
    throw unsafe(`cannot forbid ${(error as Error).message}: ${reason(error)}`, 'a seccomp profile may refuse prctl or setrlimit; allow them');
  }
}

function load(): Native {
  try {
    return loadNative();
  } catch {
    // Not `npm rebuild`: npm 12 silently skips install scripts that were not allowed by name.
    const script = fileURLToPath(new URL('../../scripts/build-native.sh', import.meta.url)).replaceAll("'", "'\\''");
    throw unsafe('its native part is missing or does not load', `install a C compiler, then: sh '${script}'`);
  }
}

function unsafe(message: string, hint: string): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.unsafe });
}
