import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { defaultWaitMs } from './support/wait.ts';

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    // Tests mostly wait for sockets and child processes, so a few more workers than cores keep both cores busy.
    maxWorkers: 4,
    // Generous: they only delay failures, and the machine may be busy. No test measures time.
    testTimeout: 90_000,
    hookTimeout: 90_000,
    expect: { poll: { timeout: defaultWaitMs } },
    // The list of tests reads as the list of promises, and shows why a test was skipped.
    reporters: ['verbose'],
  },
});
