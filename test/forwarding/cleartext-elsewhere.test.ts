import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs, skipUnless } from '../support/skip.ts';

test('in the clear the key goes to loopback alone, wherever a resolver says that localhost is', async (context) => {
  needs(context, 'root', 'command unshare', 'command mount');
  const address = Object.values(networkInterfaces()).flat().find((one) => one?.family === 'IPv4' && !one.internal)?.address;
  skipUnless(context, address !== undefined, 'needs an address of this machine beside loopback');
  let connections = 0;
  const elsewhere = net.createServer((socket) => {
    connections++;
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => elsewhere.listen(0, address, resolve));
  cleanUp(() => new Promise((resolve) => elsewhere.close(resolve)));
  const hosts = join(scratchFolder(), 'hosts');
  writeFileSync(hosts, `${address} localhost\n`);
  const { port } = elsewhere.address() as net.AddressInfo;

  const daemon = await startDaemon({
    args: ['--upstream-url', `http://localhost:${port}/v1/responses`],
    prefix: ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', `mount --bind '${hosts}' /etc/hosts && exec "$@"`, 'sh'],
  });
  const response = await ask(daemon.port);
  expect(response.status).toBe(502);
  expect(envelopeOf(response).code).toBe('upstream_unreachable');
  expect(daemon.stderr).toContain(`it is at ${address}, beyond loopback: nothing was sent in the clear`);
  expect(connections).toBe(0);
});
