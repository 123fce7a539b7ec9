type Undo = () => unknown;

/** One list for the file, and one for the test that is running. */
const scopes: Undo[][] = [];

/** Runs `undo` when the current test is over, or, called outside of a test, when the file's tests are. Last in, first out. */
export function cleanUp(undo: Undo): void {
  const scope = scopes.at(-1);
  if (scope === undefined) throw new Error('the tests of this file are over');
  scope.push(undo);
}

/** For cleanup-hooks.ts: what is opened from now on belongs together. */
export function beginScope(): void {
  scopes.push([]);
}

/** For cleanup-hooks.ts: undoes all that belongs to the innermost scope. */
export async function endScope(): Promise<void> {
  for (const undo of scopes.pop()?.reverse() ?? []) await undo();
}

/** For cleanup-hooks.ts: undoes all, and ends this process. */
export function endAllScopes(): void {
  void (async () => {
    while (scopes.length > 0) await endScope();
  })().finally(() => process.exit(1));
}
