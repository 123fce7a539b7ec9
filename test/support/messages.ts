import { expect } from 'vitest';
import type { Exit } from './daemon.ts';

/**
 * Checks what holds for every start that fails: the exit code; stderr is the line `responses-api-proxy: <reason>`, then a line `hint: ...`;
 * nothing on stdout, no stack trace. Returns the reason.
 */
export function refusalOf(exit: Exit, code: number | readonly number[]): string {
  expect([code].flat(), exit.stderr).toContain(exit.code);
  expect(exit.signal).toBe(null);
  expect(exit.stdout).toBe('');
  expectNoStack(exit.stderr);
  const match = /^responses-api-proxy: (.+)\nhint: .+\n/m.exec(exit.stderr);
  expect(match, exit.stderr).not.toBe(null);
  return match?.[1] ?? '';
}

/** No line looks like a frame of a stack trace, or names a source file of ours. */
export function expectNoStack(text: string): void {
  expect(text).not.toMatch(/^\s+at \S/m);
  expect(text).not.toMatch(/node:internal|file:\/\/|\.[jt]s:\d+/);
}

/** `text` has no piece of `secret` of `length` characters in it. */
export function expectNoPieceOf(secret: string, text: string, length = 8): void {
  for (let start = 0; start + length <= secret.length; start++) {
    if (text.includes(secret.slice(start, start + length))) expect.fail(`characters ${start} to ${start + length} of the secret are in: ${text}`);
  }
}
