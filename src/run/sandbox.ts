/**
 * What code inside this process may do. The starter has set up stage one (`../native/starter.c`); this checks that, and
 * sets up stage two.
 */
import type { Native } from '../native/native.ts';
import { reason, unsafeFailure } from './failure.ts';
import { quote } from './log.ts';

const waiver = '--unsafe-no-sandbox goes without';

/**
 * Checks that the starter's sandbox is in place, before the key is read.
 *
 * @param isWaived the user said --unsafe-no-sandbox
 * @returns what is missing, in words for the log; undefined for nothing
 * @throws {Failure} with exit code 3 if system calls are not filtered, and that was not waived
 */
export function checkSandbox(native: Native, isWaived: boolean): string | undefined {
  if (isWaived) return '--unsafe-no-sandbox: code that gets into the daemon can start programs, change files and reach other processes';
  if (!native.isStartedByStarter()) throw unsafeFailure('it runs without its sandbox', `start it as responses-api-proxy, not by node; ${waiver}`);
  // What the starter says of Landlock: its version if that is too old, or why it is missing.
  const landlock = process.env['RESPONSES_API_PROXY_LANDLOCK'];
  if (landlock === undefined) return undefined;
  if (/^\d+$/.test(landlock)) return `the kernel has version ${landlock} of Landlock, which cannot restrict ports: code that gets into the daemon can connect to any TCP port`;
  return `the kernel or container refuses Landlock (${quote(landlock)}): code that gets into the daemon can connect to any TCP port, read the memory of other processes of its user, and, where a log or a server-info file is written, change or remove any file`;
}

/**
 * Allows what serving needs, and nothing else.
 *
 * @param opensLogs whether a log may have to be reopened, so that opening files for writing stays allowed
 * @param removesFile whether a file has to be removed at the end
 * @throws {Failure} with exit code 3
 */
export function enterServingSandbox(native: Native, opensLogs: boolean, removesFile: boolean): void {
  try {
    native.forbidStartCalls(opensLogs, removesFile);
  } catch (error) {
    throw unsafeFailure(`cannot forbid system calls: ${reason(error)}`, `a seccomp profile may refuse seccomp; allow it; ${waiver}`);
  }
}
