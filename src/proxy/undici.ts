import { createRequire } from 'node:module';
import type * as Undici from 'undici';

/**
 * The parts of undici that talk HTTP/1.1. Its index also loads fetch, WebSocket, caches and mocks: 35 ms at every start
 * and 7 MB for as long as the daemon runs.
 */
const require = createRequire(import.meta.url);

export const Client = require('undici/lib/dispatcher/client.js') as typeof Undici.Client;
