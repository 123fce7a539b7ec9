import { lookup } from 'node:dns';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import { duplexPair } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import type * as Undici from 'undici';
import { Failure, reason } from '../run/failure.ts';

/**
 * The parts of undici that talk HTTP/1.1. Its index also loads fetch, WebSocket, caches and mocks: 35 ms at every start
 * and 7 MB for as long as the daemon runs.
 */
const require = createRequire(import.meta.url);

export const Client = require('undici/lib/dispatcher/client.js') as typeof Undici.Client;
export const buildConnector = require('undici/lib/core/connect.js') as typeof Undici.buildConnector;

/**
 * V8 compiles a WebAssembly function anew, with all optimizations, once this much has been executed in it. By default undici's
 * parser is there after its first answer: 0.2 s of CPU (Node 20 to 26), more than all the rest of a start, while the first
 * requests come. With this much it is there after some 150 answers.
 */
const wasmTieringBudget = 1_000_000_000;

/**
 * Does in advance the work that would delay the first request. Two requests go from undici to node:http through memory:
 * that loads and compiles undici's parser, starts node's, and compiles the JavaScript around both. The lookup starts
 * libuv's threads and loads the C library's name services.
 *
 * With --run-as this has to come before root is given up: undici reads its parser from a file with the first connection,
 * and the new user may have no access to it, nor enough processes left for the threads.
 *
 * @param awaitsLookup before the key is read: a thread that opens files must not get stdin's number while /dev/null is put there
 * @throws {Failure} when the daemon could not forward anything
 */
export async function compileAhead(awaitsLookup: boolean): Promise<void> {
  const lookedUp = new Promise<void>((resolve) => lookup('localhost', () => resolve()));
  setFlagsFromString(`--wasm-tiering-budget=${wasmTieringBudget}`);
  const server = createServer((req, res) => {
    req.resume();
    req.once('end', () => {
      res.writeHead(200, ['Content-Type', 'application/json']);
      res.write('{');
      res.end('}');
    });
  });
  const [ours, theirs] = duplexPair();
  const client = new Client('http://localhost', {
    // undici ignores a connection that is there before the call returns.
    connect: (_options, callback) => setImmediate(callback, null, ours as Socket),
  });
  try {
    server.emit('connection', theirs);
    await roundTrip(client, Buffer.from('{}'));
    await roundTrip(client, pieces());
    if (awaitsLookup) await lookedUp;
  } catch (error) {
    throw new Failure(`its HTTP client does not work: ${reason(error)}`, {
      hint: 'it needs WebAssembly: lift the limit on virtual memory (ulimit -v unlimited), and check that the installation is complete',
    });
  } finally {
    void client.destroy(); // waiting for it would let a daemon that cannot forward answer a few requests
    ours.destroy();
    theirs.destroy();
  }
}

function roundTrip(client: Undici.Client, body: Buffer | AsyncIterable<Buffer>): Promise<void> {
  return new Promise((resolve, reject) => {
    // undici's types do not know that a body may be an async iterable; its documentation does.
    client.dispatch({ method: 'POST', path: '/', headers: ['Content-Type', 'application/json'], body: body as Buffer }, {
      onConnect() {},
      onHeaders: () => true,
      onData: () => true,
      onComplete: () => resolve(),
      onError: reject,
    });
  });
}

async function* pieces(): AsyncGenerator<Buffer> {
  yield Buffer.from('{');
  yield Buffer.from('}');
}
