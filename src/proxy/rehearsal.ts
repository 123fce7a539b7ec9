import { lookup } from 'node:dns/promises';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import { Failure } from '../run/failure.ts';
import { ownFields } from './headers.ts';
import type { KernelSockets } from './kernel-sockets.ts';
import { createHttpServer, serve } from './listener.ts';
import { noObserver } from './observer.ts';
import { PooledRequest } from './upstream.ts';
import { UpstreamPool } from './upstream-pool.ts';

/**
 * V8 compiles a WebAssembly function anew, with all optimizations, once this much has been executed in it. By default undici's
 * parser is there after its first answer: 0.2 s of CPU (Node 20 to 26), more than all the rest of a start, while the first
 * requests come. With this much it is there after some 150 answers.
 */
const wasmTieringBudget = 1_000_000_000;

/** The port that the request names. Nothing is bound to it. */
const port = 1;

const request = `POST / HTTP/1.1\r\nHost: localhost:${port}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`;

/**
 * Does in advance the work that would delay the first request: one goes from a client through the daemon's own code to an
 * upstream, all in memory and without the key. That loads and compiles undici's parser, starts node's, and compiles the
 * JavaScript on the way. A lookup starts libuv's threads and loads the C library's name services.
 *
 * With --run-as this has to come before root is given up: undici reads its parser from a file with the first connection,
 * and the new user may have no access to it, nor enough processes left for the threads.
 *
 * @throws {Failure} when the daemon could not forward anything
 */
export async function rehearse(sockets: KernelSockets): Promise<void> {
  const lookedUp = lookup('localhost').catch(() => {}); // there may be none
  setFlagsFromString(`--wasm-tiering-budget=${wasmTieringBudget}`);
  const [client, daemonSide] = duplexPair();
  const [upstreamSide, answeringSide] = duplexPair();
  const upstream = createServer((req, res) => {
    req.resume().once('end', () => {
      res.write('{'); // in pieces, as a stream of events comes
      res.end('}');
    });
  });
  upstream.emit('connection', answeringSide);
  let failure = '';
  startDaemon(upstreamSide, sockets, (message) => (failure = message)).emit('connection', daemonSide);
  client.write(request);
  let answer = '';
  for await (const bytes of client) answer += String(bytes);
  for (const side of [daemonSide, upstreamSide, answeringSide]) side.destroy();
  if (!answer.startsWith('HTTP/1.1 200 ')) {
    throw new Failure(`its HTTP client does not work: ${failure}`, {
      hint: 'it needs WebAssembly: lift the limit on virtual memory (ulimit -v unlimited), and check that the installation is complete',
    });
  }
  await lookedUp; // or a thread that opens files could get stdin's number while /dev/null is put there
}

function startDaemon(upstreamSide: Duplex, sockets: KernelSockets, say: (failure: string) => void) {
  const server = createHttpServer();
  const pool = new UpstreamPool(async () => upstreamSide as Socket, {
    origin: new URL('http://localhost'),
    responseTimeoutMs: 0,
    idleTimeoutMs: 0,
    injection: { write: (_socket, write, head, _pieces, done) => write(Buffer.from(head), 'utf8', (error) => done(error, [])) },
    sockets,
  }, () => {});
  serve(server, port, {
    maxConnections: 1,
    rules: { endpoint: '/', shutdown: false, health: false, websocketFallback: false, allowedUids: undefined, token: undefined },
    peerUidOf: undefined,
    upstream: (sink) => new PooledRequest(sink, '/', pool),
    upstreamHost: 'localhost',
    ownFields: ownFields({ name: 'Authorization', value: 'none' }, []),
    events: { say, once() {}, note() {} },
    sockets,
    observer: noObserver,
    onShutdownRequest() {},
  });
  return server;
}
