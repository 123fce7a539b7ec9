import { once } from 'node:events';
import net from 'node:net';
import { expect, test } from 'vitest';
import { kernelSockets } from '../../src/proxy/kernel-sockets.ts';
import { UpstreamPool } from '../../src/proxy/upstream-pool.ts';
import { PooledRequest } from '../../src/proxy/upstream.ts';
import { cleanUp } from '../support/cleanup.ts';
import { builtNative } from '../support/native.ts';
import { answer } from '../support/upstream.ts';

// A server that speaks first spoils the connection: nothing of a request is written to it, whatever the timing.
test.for([
  [0, 1, 'the answer'],
  [3, 4, 'the answer'],
  [4, 4, 'the upstream spoke first'],
] as const)('a request whose first %i new connections are spoilt before it is written makes %i, and hears: %s', async ([spoilt, made, outcome]) => {
  const connections: net.Socket[] = [];
  const server = net.createServer((socket) => {
    connections.push(socket);
    if (connections.length <= spoilt) socket.write('HTTP/1.1 408 Too Early\r\n\r\n');
    else socket.once('data', () => socket.write(answer(200, '{}')));
  }).listen(0, '127.0.0.1');
  cleanUp(() => {
    for (const socket of connections) socket.destroy();
    server.close();
  });
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;

  const dial = async (): Promise<net.Socket> => {
    const isSpoilt = connections.length < spoilt;
    const socket = net.connect(port, '127.0.0.1');
    await once(socket, isSpoilt ? 'readable' : 'connect');
    return socket;
  };
  const pool = new UpstreamPool(dial, {
    origin: new URL(`http://127.0.0.1:${port}`),
    responseTimeoutMs: 0,
    idleTimeoutMs: 0,
    injection: { write: (_socket, write, head, _pieces, done) => write(Buffer.from(head), 'buffer' as BufferEncoding, (error) => done(error, [])) },
    sockets: kernelSockets(builtNative()),
  }, () => {});
  const heard = await new Promise<string>((resolve) => {
    const sink = { begin() {}, head: () => true, data: () => true, end: () => resolve('the answer'), fail: (error: Error) => resolve(error.message) };
    new PooledRequest(sink, '/', pool).send([], { whenReadable: (callback) => callback(), take: () => null });
  });
  expect([heard, connections.length]).toEqual([outcome, made]);
});
