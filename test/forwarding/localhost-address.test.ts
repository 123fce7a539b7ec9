import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { startDaemon } from '../support/daemon.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

/** Another program, which took the upstream's port on ::1; undefined where there is no IPv6. */
async function impostor(port: number): Promise<{ connections: number } | undefined> {
  const seen = { connections: 0 };
  const server = net.createServer((socket) => {
    seen.connections++;
    socket.on('error', () => {}).end('HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n', () => socket.destroy());
  });
  const isListening = await new Promise<boolean>((resolve) => server.once('error', () => resolve(false)).listen(port, '::1', () => resolve(true)));
  if (!isListening) return undefined;
  cleanUp(() => new Promise((resolve) => server.close(resolve)));
  return seen;
}

/** In a mount namespace where a resolver says ::1 first, as Debian's default file does. */
function withBothAddresses(): string[] {
  const hosts = join(scratchFolder(), 'hosts');
  writeFileSync(hosts, '::1 localhost\n127.0.0.1 localhost\n');
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', `mount --bind '${hosts}' /etc/hosts && exec "$@"`, 'sh'];
}

test('an upstream http://localhost is at 127.0.0.1, whoever listens on ::1', async (context) => {
  needs(context, 'root', 'command unshare', 'command mount');
  const upstream = await startUpstream({ answer: answer(200, '{}'), tls: false });
  const seen = await impostor(upstream.port);
  skipUnless(context, seen !== undefined, 'needs IPv6');
  const daemon = await startDaemon({ args: ['--upstream-url', `http://localhost:${upstream.port}/v1/responses`], prefix: withBothAddresses() });
  for (let request = 0; request < 5; request++) expect((await ask(daemon.port)).status).toBe(200);
  expect(seen?.connections).toBe(0);
});

test('so is a proxy', async (context) => {
  needs(context, 'root', 'command unshare', 'command mount');
  const asked: Buffer[] = [];
  const proxy = net.createServer((socket) => void socket.on('error', () => {}).once('data', (bytes: Buffer) => {
    asked.push(bytes);
    socket.end('HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n', () => socket.destroy());
  }));
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  cleanUp(() => new Promise((resolve) => proxy.close(resolve)));
  const { port } = proxy.address() as net.AddressInfo;
  const seen = await impostor(port);
  skipUnless(context, seen !== undefined, 'needs IPv6');
  const daemon = await startDaemon({ args: ['--upstream-url', 'https://api.example/v1/responses', '--upstream-proxy', `http://user:password@localhost:${port}`], prefix: withBothAddresses() });
  expect((await ask(daemon.port)).status).toBe(502);
  expect(Buffer.concat(asked).toString('latin1')).toContain('Proxy-Authorization: Basic ');
  expect(seen?.connections).toBe(0);
});
