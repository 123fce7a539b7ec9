import { Module, createRequire } from 'node:module';
import type * as Undici from 'undici';

/**
 * The parts of undici that talk HTTP/1.1. Its index also loads fetch, WebSocket, caches and mocks: 35 ms at every start
 * and 7 MB for as long as the daemon runs.
 */
const require = createRequire(import.meta.url);

// Its client also loads HTTP/2, undici's and node's: 3 ms. No connection speaks that: ALPN offers HTTP/1.1 alone.
const http2 = require.resolve('undici/lib/dispatcher/client-h2.js');
require.cache[http2] = Object.assign(new Module(http2), { loaded: true });

export const Client = require('undici/lib/dispatcher/client.js') as typeof Undici.Client;
