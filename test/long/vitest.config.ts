import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { defaultWaitMs } from '../support/wait.ts';

/** What takes minutes: not for `npm test`, but for CI and for whoever changes how bytes move. */
export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: {
    include: ['test/long/**/*.{test,long}.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    // They measure memory and load: one file after the other.
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 20_000,
    expect: { poll: { timeout: defaultWaitMs } },
    reporters: ['verbose'],
  },
});
