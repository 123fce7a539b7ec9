import { readFileSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { expect, test } from 'vitest';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { answer, freePort, startUpstream } from '../support/upstream.ts';

/** How a connection attempt ends: 'connected' or the error's code. */
function attempt(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port }, () => {
      socket.destroy();
      resolve('connected');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

test('it listens on 127.0.0.1 alone', async () => {
  const { port } = await startDaemon();
  expect(await attempt('127.0.0.1', port)).toBe('connected');
  const others = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []).filter(({ address }) => address !== '127.0.0.1' && !address.startsWith('fe80'));
  for (const { address } of [...others, { address: '127.0.0.2' }, { address: '::1' }]) {
    expect(await attempt(address, port), address).not.toBe('connected');
  }
  const listening = (table: string): string[] => {
    const lines = readFileSync(table, 'utf8').split('\n').slice(1).map((line) => line.trim().split(/\s+/));
    return lines.filter(([, , , state]) => state === '0A').map(([, local]) => local ?? '');
  };
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const all = [...listening('/proc/net/tcp'), ...listening('/proc/net/tcp6')];
  expect(all.filter((local) => local.endsWith(`:${hexPort}`))).toEqual([`0100007F:${hexPort}`]);
});

test('--port N is where it listens', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const port = await freePort();
  const daemon = await startDaemon({ args: [...upstream.args, '--port', String(port)] });
  expect(daemon.port).toBe(port);
  expect((await ask(port)).status).toBe(200);
  expect((await ask(port, { host: '127.0.0.1' })).status).toBe(403);
});

test('without --port each daemon gets a free port', async () => {
  const [one, two] = await Promise.all([startDaemon(), startDaemon()]);
  expect(one.port).not.toBe(two.port);
  expect((await ask(one.port, { method: 'GET' })).status).toBe(403);
  expect((await ask(two.port, { method: 'GET' })).status).toBe(403);
});

test('a port in use is an error with a hint', async () => {
  const { port } = await startDaemon();
  const exit = await runToExit({ args: ['--port', String(port)] });
  expect(refusalOf(exit, 1)).toBe(`cannot bind 127.0.0.1:${port}: address already in use`);
  expect(exit.stderr).not.toContain('listening');
});

test('it is announced when it is ready, in one line of stderr, and stdout stays empty', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  // Immediately after the announcement.
  expect((await Promise.all([ask(daemon.port), ask(daemon.port)])).map(({ status }) => status)).toEqual([200, 200]);
  const exit = await daemon.stop();
  expect(exit.stdout).toBe('');
  expect(exit.stderr.match(/listening on/g)).toHaveLength(1);
  expect(exit.stderr.split('\n')).toContain(`responses-api-proxy listening on 127.0.0.1:${daemon.port}`);
});
