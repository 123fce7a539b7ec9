import { afterAll, afterEach, beforeEach } from 'vitest';

type Undo = () => unknown;

const scopes: Undo[][] = [[]];

// What a test (or its beforeEach) opened ends with it; what beforeAll opened ends with the file.
// Therefore no `test.concurrent`: two tests at once would end each other's things. Files run in parallel.
beforeEach(() => {
  scopes.push([]);
});
afterEach(() => runAll(scopes.pop()));
afterAll(async () => {
  while (scopes.length > 0) await runAll(scopes.pop());
});

/** Runs `undo` when the current test is over, or, called outside of a test, when the file's tests are. Last in, first out. */
export function cleanUp(undo: Undo): void {
  const scope = scopes.at(-1);
  if (scope === undefined) throw new Error('the tests of this file are over');
  scope.push(undo);
}

async function runAll(undos: Undo[] | undefined): Promise<void> {
  for (const undo of undos?.reverse() ?? []) await undo();
}
