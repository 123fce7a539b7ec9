import { getSystemErrorMap } from 'node:util';
import { type ExitCode, exitCodes } from './exit-codes.ts';

/**
 * Why the daemon ends, in words for its user.
 *
 * The message is one line, in lower case and without a full stop: what happened, and the flag or file that it happened to.
 * The hint says what to do, as one who knows the system would say it. No stack, no byte of a key, and of arguments nothing
 * but the names of files and users; what others chose goes in `quote`.
 */
export class Failure extends Error {
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;

  constructor(message: string, { hint, exitCode = exitCodes.failed }: { hint?: string; exitCode?: ExitCode } = {}) {
    super(message);
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

/** For wrong arguments: exit code 2. */
export function usageFailure(message: string, hint = 'see responses-api-proxy --help'): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.usage });
}

/** For a protection that cannot be had: exit code 3. The key was not used. */
export function unsafeFailure(message: string, hint: string): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.unsafe });
}

/** A system error in words, as perror(3) would say it: `address already in use`, not `listen EADDRINUSE: …`. */
export function reason(error: unknown): string {
  const { errno, code, message } = error as NodeJS.ErrnoException;
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  return words ?? code ?? message ?? 'unknown error';
}
