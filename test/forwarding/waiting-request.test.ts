import { once } from 'node:events';
import type { Socket } from 'node:net';
import { duplexPair } from 'node:stream';
import { expect, test } from 'vitest';
import { Connection } from '../../src/proxy/connections.ts';
import { kernelSockets } from '../../src/proxy/kernel-sockets.ts';
import { createHttpServer } from '../../src/proxy/listener.ts';
import { builtNative } from '../support/native.ts';

// Here node parses all that came in one read in one go, and tells later that an answer is out: on a socket it would take
// an answer that fills the kernel to the last byte.
test.for([
  [2, ['/1', '/2']],
  [3, ['/1']],
] as const)('of %i requests at once, each answered at once: a second one waits for the end of the first answer, and is not served if a third has ended the connection', async ([count, expected]) => {
  const [client, side] = duplexPair();
  const served: string[] = [];
  const connection = new Connection(side as Socket, undefined, kernelSockets(builtNative()));
  const server = createHttpServer().on('request', (req, res) => connection.accept(req, res, () => {
    served.push(String(req.url));
    res.end();
    if (served.length === 2) connection.endBehindAnswer();
  }));
  server.emit('connection', side);
  client.resume().write(Array.from({ length: count }, (_, index) => `GET /${index + 1} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''));
  await once(client, 'end');
  client.destroy();
  expect(served).toEqual(expected);
});
