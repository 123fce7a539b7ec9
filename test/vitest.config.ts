import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { defaultWaitMs } from './support/wait.ts';

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/cleanup-hooks.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    // Starting a worker and loading vitest in it costs 0.4 s of CPU, so each worker takes one file after the other. Files leave nothing behind.
    isolate: false,
    // Tests mostly wait for sockets and child processes, so a few more workers than cores keep both cores busy.
    maxWorkers: 4,
    // Generous: they only delay failures, and the machine may be busy. Time is measured in test/long.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    expect: { poll: { timeout: defaultWaitMs } },
    // The list of tests reads as the list of promises, and shows why a test was skipped.
    reporters: ['verbose'],
  },
});
