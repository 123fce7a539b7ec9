import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { defaultWaitMs } from './support/wait.ts';

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    // The tests mostly wait for sockets and child processes; a few more workers than cores keep both cores busy.
    maxWorkers: 4,
    testTimeout: 20_000,
    hookTimeout: 20_000,
    expect: { poll: { timeout: defaultWaitMs } },
    // The list of tests reads as the list of promises, and it is where the reason of a skipped test shows.
    reporters: ['verbose'],
  },
});
