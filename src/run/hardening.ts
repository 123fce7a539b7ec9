import { readFileSync, readdirSync } from 'node:fs';
import inspector from 'node:inspector';
import type { Account, Native } from '../native/native.ts';
import { exitCodes } from './exit-codes.ts';
import { Failure, reason } from './failure.ts';
import { foreign } from './log.ts';

/** All that the starter lets through (`../native/starter.c`). Any other variable is proof that node was started without it. */
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

/** What the launcher gives node (a warning of node's would go to stderr past our log, with a stack). */
const allowedNodeOptions = new Set(['--no-warnings', '--inspect-port=192.0.2.1:9229', '--single-threaded-gc']);

/**
 * Checks that nobody looks into this process: no inspector (a SIGUSR1 may have come before the listener), no tracer of
 * any of its threads.
 *
 * @throws {Failure} with exit code 3
 */
export function checkUnobserved(): void {
  if (inspector.url() !== undefined) throw unsafe('a debugger port is open', 'start it again, without --inspect or SIGUSR1');
  for (const thread of readdirSync('/proc/self/task')) {
    const tracer = tracerOf(thread);
    if (tracer !== '0') throw unsafe(`process ${tracer} is tracing it`, 'start it without a debugger');
  }
}

/** Each of node's threads has a tracer of its own, who can have it read all memory of the process. '0' for nobody. */
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
 * Checks that the process was started by the launcher: from an empty environment and without options for node.
 * Cleaning up here would be too late, see `../launcher.sh`.
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

/** A step that closes the process to others, and what it is called in messages. */
export type HardeningStep = 'forbidTracing' | 'forbidCoreDumps' | 'forbidNewPrivileges';

export const hardeningSteps: Record<HardeningStep, string> = {
  forbidTracing: 'tracing and /proc/PID/mem of the same user',
  forbidCoreDumps: 'core dumps',
  forbidNewPrivileges: 'new privileges',
};

/**
 * Closes the process to its own user: no ptrace, no /proc/PID/mem, no core dump, no setuid helper.
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

/** Node has it; its types do not. */
interface InitGroups {
  initgroups(user: string, extraGroup: number): void;
}

/**
 * Gives up root for good: groups, gid, uid, in this order, and proves that it cannot come back.
 * A change of uid makes the process dumpable by the kernel's default, so tracing is forbidden once more.
 *
 * @throws {Failure} with exit code 3
 */
export function giveUpRoot({ name, uid, gid }: Account, native: Native): void {
  try {
    (process as unknown as InitGroups).initgroups(name, gid);
    process.setgid?.(gid);
    process.setuid?.(uid);
    native.forbidTracing();
  } catch (error) {
    throw unsafe(`cannot become ${foreign(name)}: ${reason(error)}`, 'choose another user for --run-as');
  }
  if (canRegainRoot()) throw unsafe('root could be regained after --run-as', 'run it in a container or unit that grants no capabilities');
}

function canRegainRoot(): boolean {
  if (process.getuid?.() === 0 || process.geteuid?.() === 0 || process.getgid?.() === 0 || process.getegid?.() === 0) return true;
  if (process.getgroups?.().includes(0)) return true;
  try {
    process.setuid?.(0);
    return true;
  } catch {
    return false; // what we want to hear
  }
}

function unsafe(message: string, hint: string): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.unsafe });
}
