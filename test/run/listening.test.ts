import { readFileSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { daemonOn } from '../../src/run/server-info.ts';
import { nobody, runToExit, startDaemon, type Exit } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
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

describe('a port in use is an error, whose hint says', () => {
  const hintOf = (port: number, { stderr, ...exit }: Exit): string => {
    expect(refusalOf({ stderr, ...exit }, 1)).toBe(`cannot bind 127.0.0.1:${port}: address already in use`);
    expect(stderr).not.toContain('listening');
    return /^hint: (.*)$/m.exec(stderr)?.[1] ?? '';
  };
  const another = 'choose another --port, or none';
  const ours = (pid: number): string => `a responses-api-proxy runs there, pid ${pid}: use or end it, or ${another}`;

  test('which daemon of this user has it', async () => {
    const port = await freePort();
    const { pid } = await startDaemon({ args: ['--http-health', `--port=${port}`, '--http-shutdown'] });
    expect(hintOf(port, await runToExit({ args: ['--port', String(port)] }))).toBe(ours(pid));
    // Nor does one that begins with the same digits count.
    expect(daemonOn(Math.trunc(port / 10))).toBe(undefined);
  });

  test('which daemon of this user has it, where that chose the port itself and wrote it down', async () => {
    const { pid, port } = await startDaemon({ args: ['--server-info', join(scratchFolder(), 'server-info.json')] });
    expect(hintOf(port, await runToExit({ args: ['--port', String(port)] }))).toBe(ours(pid));
  });

  test('nothing of a stranger', async () => {
    const upstream = await startUpstream();
    expect(hintOf(upstream.port, await runToExit({ args: ['--port', String(upstream.port)] }))).toBe(another);
    expect(upstream.connections).toEqual([]);
  });

  test("nothing of another user's daemon, which could be a stranger's that only looks like one", async (context) => {
    needs(context, 'root and a build that other users can run');
    for (const [first, second] of [[{}, { user: nobody }], [{ user: nobody }, {}]]) {
      const args = ['--port', String(await freePort())];
      const { port } = await startDaemon({ ...first, args });
      expect(hintOf(port, await runToExit({ ...second, args }))).toBe(another);
    }
  });
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
