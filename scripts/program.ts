const signalExitCodes = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Runs a script's `main` and exits with what it returns, or with 1 and a message if it throws or takes too long.
 * Every way out, signals too, goes through `process.exit`, so that 'exit' listeners remove what would be left behind.
 */
export function runProgram(name: string, timeoutMs: number, main: () => Promise<number>): void {
  const fail = (message: string): never => {
    console.error(`${name}: ${message}`);
    process.exit(1);
  };
  for (const [signal, code] of Object.entries(signalExitCodes)) process.once(signal, () => process.exit(code));
  // Nobody reads on, as in `npm run demo | head`.
  process.stdout.on('error', () => process.exit(1));
  setTimeout(() => fail(`not done after ${timeoutMs / 1000} s`), timeoutMs).unref();
  main().then((code) => process.exit(code), (error: unknown) => fail(error instanceof Error ? error.message : String(error)));
}
