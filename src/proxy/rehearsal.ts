import { lookup } from 'node:dns';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { Failure } from '../run/failure.ts';
import { ownFields } from './headers.ts';
import { noKernelSockets } from './kernel-sockets.ts';
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

/** The port that the requests name. Nothing is bound to it. */
const port = 1;

/** What clients send: a body with a length, and one in chunks. */
const requests = ['Content-Length: 2\r\n\r\n{}', 'Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n'];

/**
 * Does in advance the work that would delay the first request: two requests go from a client through the daemon's own code
 * to an upstream, all in memory and without the key. That loads and compiles undici's parser, starts node's, and compiles
 * the JavaScript on the way. A lookup starts libuv's threads and loads the C library's name services.
 *
 * With --run-as this has to come before root is given up: undici reads its parser from a file with the first connection,
 * and the new user may have no access to it, nor enough processes left for the threads.
 *
 * @param awaitsLookup before the key is read: a thread that opens files must not get stdin's number while /dev/null is put there
 * @throws {Failure} when the daemon could not forward anything
 */
export async function rehearse(awaitsLookup: boolean): Promise<void> {
  const lookedUp = new Promise<void>((resolve) => lookup('localhost', () => resolve()));
  setFlagsFromString(`--wasm-tiering-budget=${wasmTieringBudget}`);
  let failure = '';
  const [client, daemonSide] = duplexPair();
  const [upstreamSide, answeringSide] = duplexPair();
  const upstream = createServer((req, res) => {
    req.resume().once('end', () => {
      res.writeHead(200, ['Content-Type', 'application/json']);
      res.write('{'); // in pieces, as a stream of events comes
      res.end('}');
    });
  });
  upstream.emit('connection', answeringSide);
  startDaemon(upstreamSide as Socket, (message) => (failure = message)).emit('connection', daemonSide);
  try {
    for (const request of requests) {
      client.write(`POST / HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Type: application/json\r\n${request}`);
      if (!(await isAnswered(client))) {
        throw new Failure(`its HTTP client does not work: ${failure}`, {
          hint: 'it needs WebAssembly: lift the limit on virtual memory (ulimit -v unlimited), and check that the installation is complete',
        });
      }
      await setImmediate(); // then the connection is free again
    }
  } finally {
    for (const side of [client, daemonSide, upstreamSide, answeringSide]) side.destroy();
  }
  if (awaitsLookup) await lookedUp;
}

/** Resolves once an answer is there: whether it is the upstream's, which is chunked. */
function isAnswered(client: Duplex): Promise<boolean> {
  return new Promise((resolve) => {
    let answer = '';
    const onData = (bytes: Buffer): void => {
      answer += bytes.toString('latin1');
      const isUpstreams = answer.startsWith('HTTP/1.1 200 ');
      if (isUpstreams && !answer.endsWith('\r\n0\r\n\r\n')) return;
      client.off('data', onData);
      resolve(isUpstreams);
    };
    client.on('data', onData);
  });
}

function startDaemon(upstreamSide: Socket, say: (failure: string) => void) {
  const server = createHttpServer();
  const made = [upstreamSide];
  const pool = new UpstreamPool(async () => made.pop() ?? Promise.reject(new Error('the connection was not kept')), {
    origin: new URL('http://localhost'),
    responseTimeoutMs: 0,
    idleTimeoutMs: 0,
    injection: { write: (_socket, write, head, _pieces, done) => write(Buffer.from(head), 'utf8', (error) => done(error, [])) },
    sockets: noKernelSockets,
  }, () => {});
  serve(server, port, {
    maxConnections: 1,
    rules: { endpoint: '/', shutdown: false, health: false, websocketFallback: false, allowedUids: undefined, token: undefined },
    peerUidOf: undefined,
    upstream: (sink) => new PooledRequest(sink, '/', pool),
    upstreamHost: 'localhost',
    ownFields: ownFields({ name: 'Authorization', value: 'none' }, []),
    events: { say, once() {}, note() {} },
    sockets: noKernelSockets,
    observer: noObserver,
    onShutdownRequest() {},
  });
  return server;
}
