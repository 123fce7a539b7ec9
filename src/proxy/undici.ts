import { createRequire } from 'node:module';
import type * as Undici from 'undici';

/**
 * The parts of undici that talk HTTP/1.1. Its index also loads fetch, WebSocket, caches and mocks: 35 ms at every start
 * and 7 MB for as long as the daemon runs.
 */
const require = createRequire(import.meta.url);

// undici loads its parser with the first connection. By then the daemon may be a user who cannot read its own files (--run-as).
require('undici/lib/llhttp/llhttp_simd-wasm.js');

export const Client = require('undici/lib/dispatcher/client.js') as typeof Undici.Client;
export const buildConnector = require('undici/lib/core/connect.js') as typeof Undici.buildConnector;
