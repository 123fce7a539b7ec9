import { getSystemErrorMap } from 'node:util';

/** The exit codes a user can rely on. */
export const exitCodes = {
  /** Stopped as asked. */
  stopped: 0,
  /** Could not start, or failed while running. */
  failed: 1,
  /** The arguments are wrong. */
  usage: 2,
  /** Memory could not be locked, or a hardening step failed: the key was not used. */
  unsafe: 3,
} as const;

/**
 * Why the daemon ends, in words for its user.
 *
 * The message is one line, in lower case and without a full stop: what happened, and the flag or file that it happened to.
 * The hint says what to do, as one who knows the system would say it. No stack, no byte of a key, and of arguments nothing
 * but the names of files and users; what others chose goes in `quote`.
 */
export class Failure extends Error {
  readonly hint: string | undefined;
  readonly exitCode: number;

  constructor(message: string, { hint, exitCode = exitCodes.failed }: { hint?: string; exitCode?: number } = {}) {
    super(message);
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

/** For wrong arguments. */
export function usageFailure(message: string, hint = 'see responses-api-proxy --help'): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.usage });
}

/** For a protection that cannot be had. */
export function unsafeFailure(message: string, hint: string): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.unsafe });
}

/** An error of our own with a code, as the system's have one. */
export class CodedError extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause?: Error | null) {
    super(message, { cause });
    this.code = code;
  }
}

/** A system error in words, as perror(3) would say it: `address already in use`, not `listen EADDRINUSE: …`. */
export function reason(error: unknown): string {
  const { errno, code, message } = error as NodeJS.ErrnoException;
  return getSystemErrorMap().get(errno ?? 0)?.[1] ?? code ?? message ?? 'unknown error';
}
