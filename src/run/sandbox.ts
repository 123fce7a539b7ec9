/**
 * The walls around this process, as far as code inside it is concerned. The starter closed the first stage before node
 * began (`../native/starter.c`); here that is made sure of, and the second stage closed.
 */
import type { Native } from '../native/native.ts';
import { exitCodes } from './exit-codes.ts';
import { Failure, reason } from './failure.ts';
import { foreign } from './log.ts';

/**
 * Checks that the starter's walls are there, before the key comes in.
 *
 * @param native undefined where the addon could not be loaded, and that was waived
 * @param isWaived the user said --unsafe-no-sandbox
 * @param landlock the starter's word on what it lacks: an errno's name, or the version that the kernel has; undefined for nothing
 * @returns what is missing, in words for the log
 * @throws {Failure} with exit code 3 when system calls are not filtered, and that was not waived
 */
export function checkSandbox(native: Native | undefined, isWaived: boolean, landlock: string | undefined): string[] {
  if (isWaived) return ['--unsafe-no-sandbox: code that gets into the daemon can start programs, change files and reach other processes'];
  if (native === undefined) return ['--unsafe-unlocked-memory: a sandbox once it listens: not provided, for it takes the native part'];
  if (!native.isStartedByStarter()) throw unsafe('no sandbox is around it', 'start it as responses-api-proxy, not by node');
  if (landlock === undefined) return [];
  if (/^\d+$/.test(landlock)) return [`the kernel's Landlock is of version ${landlock}: code that gets into the daemon can connect to any TCP port`];
  return [`the kernel or container refuses Landlock (${foreign(landlock)}): code that gets into the daemon can connect to any TCP port, and where a log is written, to any file`];
}

/**
 * Forbids what only the start needed: programs, other users, new listeners, changes to files. From here on it is to read,
 * to write and to talk.
 *
 * @param opensLogs a log may have to be opened anew
 * @throws {Failure} with exit code 3
 */
export function closeStart(native: Native, opensLogs: boolean): void {
  try {
    native.closeStartCalls(opensLogs);
  } catch (error) {
    throw unsafe(`cannot forbid system calls: ${reason(error)}`, 'a seccomp profile may refuse seccomp; allow it');
  }
}

function unsafe(message: string, hint: string): Failure {
  return new Failure(message, { hint: `${hint}; --unsafe-no-sandbox goes without`, exitCode: exitCodes.unsafe });
}
