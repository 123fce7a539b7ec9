import { fileURLToPath } from 'node:url';
import { configDefaults, defineConfig } from 'vitest/config';
import { defaultWaitMs } from '../support/wait.ts';

/** Tests that measure memory, CPU or time: one after the other, with nothing beside them. */
const measuring = ['audit-million-lines', 'crowd', 'custody-load', 'gate-cost', 'held-bodies', 'forwarding-512-mib', 'forwarding-soak', 'idle-race', 'policy-memory', 'prompt-exit', 'upstream-reload'].map((name) => `test/long/${name}.long.ts`);

/** Tests that take minutes: not for `npm test`, but for CI and after changes to how bytes move. */
export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: {
    reporters: ['verbose'],
    projects: [
      { extends: true, test: { name: 'alone', include: measuring, maxWorkers: 1, sequence: { groupOrder: 0 } } },
      { extends: true, test: { name: 'side by side', include: ['test/long/*.long.ts'], exclude: [...configDefaults.exclude, ...measuring], maxWorkers: 3, sequence: { groupOrder: 1 } } },
    ],
    setupFiles: ['test/support/cleanup-hooks.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    // Generous, and no test has one of its own: they only end what hangs.
    testTimeout: 1_200_000,
    hookTimeout: 1_200_000,
    expect: { poll: { timeout: defaultWaitMs } },
  },
});
