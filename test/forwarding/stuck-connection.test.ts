import net from 'node:net';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { startDaemon } from '../support/daemon.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

/** Most of each request is its head, so that it is a head with the key that does not fit into the kernel in the end. */
const headers = [['x-long', 'x'.repeat(12_000)]] as const;

/** Enough of them for any kernel's buffers. */
const mostRequests = 3_000;

/** An upstream in the clear that never reads from its first connection, and answers whatever it reads from others. */
async function startUpstream(): Promise<{ readonly port: number; readonly sockets: net.Socket[] }> {
  const sockets: net.Socket[] = [];
  const server = net.createServer({ pauseOnConnect: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    if (sockets.length > 1) socket.on('data', (bytes: Buffer) => bytes.includes('POST') && socket.write(answer(200, 'read'))).resume();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as net.AddressInfo).port, sockets };
}

test('an upstream that answers without reading keeps no other request from being sent', async () => {
  const { port, sockets } = await startUpstream();
  const daemon = await startDaemon({ args: ['--upstream-url', `http://127.0.0.1:${port}/v1/responses`] });
  const client = await connect(daemon.port);
  for (let count = 0; count < mostRequests; count++) {
    await client.send(rawRequest(daemon.port, { headers, body: '{}' }));
    const other = await ask(daemon.port, { body: '{}' });
    expect([other.status, other.text()]).toEqual([200, 'read']);
    const [unread] = sockets;
    unread?.write(answer(200, 'unread'));
    const response = await client.response();
    // The daemon has given the connection up.
    if (response.text() !== 'unread') return;
  }
});
