import { afterAll, afterEach, beforeEach } from 'vitest';
import { beginScope, endAllScopes, endScope } from './cleanup.ts';

// Runs at the start of each file (setupFiles). What a test (or its beforeEach) opened ends with it; what beforeAll opened ends with the file.
// Therefore no `test.concurrent`: two tests at once would end each other's things. Files run in parallel.
beginScope();
beforeEach(beginScope);
afterEach(endScope);
afterAll(endScope);

// Once in each worker, and not for each file: where vitest itself is ended, by whatever signal, its workers would go on without it.
if (process.listenerCount('disconnect', endAllScopes) === 0) process.once('disconnect', endAllScopes);
