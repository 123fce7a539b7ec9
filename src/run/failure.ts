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

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

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

/** A system error's own words, as perror(3) would say them: `address already in use`, not `listen EADDRINUSE: …`. */
export function reason(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  const { code, message } = error as NodeJS.ErrnoException;
  // Node's form is `CODE: text, syscall 'path'`; listen(2) and connect(2) add theirs in front.
  const text = code === undefined ? undefined : new RegExp(`${code}: ([^,]+)`).exec(message)?.[1];
  return text ?? code ?? message;
}
