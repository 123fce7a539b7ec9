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
