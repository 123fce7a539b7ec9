import { readFileSync, readdirSync } from 'node:fs';
import inspector from 'node:inspector';
import type { Native } from '../native/native.ts';
import { exitCodes } from './exit-codes.ts';
import { Failure, reason } from './failure.ts';
import { foreign } from './log.ts';

/** All that the starter passes on (`../native/starter.c`). Any other variable means that node was started without it. */
const allowedEnvironment = new Set([
  'RESPONSES_API_PROXY_IGNORED_SIGNALS',
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

/** A hardening step, and what messages say that it forbids. */
export type HardeningStep = 'forbidTracing' | 'forbidCoreDumps' | 'forbidNewPrivileges';

/** All of them, in the order in which they are taken. */
export const hardeningSteps: Record<HardeningStep, string> = {
  forbidTracing: 'tracing and /proc/PID/mem of the same user',
  forbidCoreDumps: 'core dumps',
  forbidNewPrivileges: 'new privileges',
};

/**
 * Closes the process to other processes of its user: no ptrace, no /proc/PID/mem, no core dump, no setuid helper.
 *
 * @throws {Failure} with exit code 3 when a step fails
 */
export function harden(native: Native): void {
  for (const [step, what] of Object.entries(hardeningSteps)) {
    try {
      native[step as HardeningStep]();
    } catch (error) {
      throw unsafe(`cannot forbid ${what}: ${reason(error)}`, 'a seccomp profile may refuse prctl or setrlimit; allow them');
    }
  }
}

function unsafe(message: string, hint: string): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.unsafe });
}
