import { expect } from 'vitest';
import { type Options, parseCommandLine } from '../../src/options.ts';
import { Failure } from '../../src/run/failure.ts';

/** What a command line asks for: its options. */
export async function optionsOf(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Options> {
  const options = await parseCommandLine(args, environment);
  if (typeof options === 'string') expect.fail('it is no run');
  return options;
}

/** Checks that `act` fails as every start does that cannot go on: with words, a hint and that exit code. Returns the message and the hint. */
export async function failureOf(act: () => unknown, code: number): Promise<{ message: string; hint: string }> {
  let failure: unknown;
  try {
    await act();
  } catch (error) {
    failure = error;
  }
  expect(failure).toBeInstanceOf(Failure);
  const { message, hint = '', exitCode } = failure as Failure;
  expect(exitCode).toBe(code);
  for (const text of [message, hint]) expect(text).toMatch(/^\S.*\S$/); // one line each
  return { message, hint };
}

/** Why a command line is refused, with exit code 2. What the daemon makes of that is in run/options.test.ts. */
export async function misuseOf(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<{ message: string; hint: string }> {
  return failureOf(() => parseCommandLine(args, environment), 2);
}
