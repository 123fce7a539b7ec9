import { getSystemErrorMap } from 'node:util';
import { type ExitCode, exitCodes } from './exit-codes.ts';

/** Why the daemon ends, in words for its user: what happened, what to do about it, and the exit code. */
export class Failure extends Error {
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;

  constructor(message: string, { hint, exitCode = exitCodes.failed }: { hint?: string; exitCode?: ExitCode } = {}) {
    super(message);
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

/** A system error in words, as perror(3) would say it: `address already in use`, not `listen EADDRINUSE: …`. */
export function reason(error: unknown): string {
  const { errno, code, message } = error as NodeJS.ErrnoException;
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  return words ?? code ?? message ?? 'unknown error';
}
