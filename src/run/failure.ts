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

/** What to do about a file that cannot be opened to write to it; `otherwise` where the error alone does not tell. */
export function writeHint(error: unknown, otherwise: string): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'create its folder first';
    case 'EACCES':
    case 'EPERM':
      return 'give the user who starts the daemon the right to write there, or choose another folder';
    case 'EROFS':
      return 'choose a folder that is not read-only (in a systemd unit: LogsDirectory= or ReadWritePaths=)';
    default:
      return otherwise;
  }
}
