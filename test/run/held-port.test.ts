import { closeSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Native } from '../../src/native/native.ts';
import { bind } from '../../src/proxy/listener.ts';
import { cleanUp } from '../support/cleanup.ts';
import { nobody, runToExit, shell, startDaemon } from '../support/daemon.ts';
import { checkout } from '../support/daemon-paths.ts';
import { denying } from '../support/deny.ts';
import { activated, listeningSocket } from '../support/inherited-socket.ts';
import { refusalOf } from '../support/messages.ts';
import { nativeTool, runTool } from '../support/native-tools.ts';
import { needsNetworkNamespaces } from '../support/network-namespace.ts';
import { ask, connect } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { asking, startBoth } from '../support/proxied.ts';
import { answer, startUpstream } from '../support/upstream.ts';

// Clients that read `localhost` as ::1 first must not find somebody else there, who would get their token.

const ways = 8;

/** How each way to listen on an address and port ends. */
async function attempts(address: string, port: number, user?: typeof nobody): Promise<string[]> {
  const { stdout } = await runTool(await nativeTool('bind-port'), [address, String(port)], user === undefined ? {} : { user });
  return stdout.trim().split('\n');
}

const inUse = Array.from({ length: ways }, () => 'Address already in use');

async function listenOn(host: string, port = 0): Promise<number> {
  const server = net.createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ host, port, ipv6Only: true }, resolve));
  cleanUp(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

describe('nobody else can listen on the port of ::1', () => {
  test('not the same user', async (context) => {
    needs(context, 'command cc');
    const { port } = await startDaemon();
    for (const address of ['::1', '::']) expect(await attempts(address, port), address).toEqual(inUse);
  });

  test('not another user', async (context) => {
    needs(context, 'root', 'command cc');
    const { port } = await startDaemon();
    for (const address of ['::1', '::']) expect(await attempts(address, port, nobody), address).toEqual(inUse);
  });

  test('not root', async (context) => {
    needs(context, 'root and a build that other users can run', 'command cc');
    const { port } = await startDaemon({ user: nobody });
    for (const address of ['::1', '::']) expect(await attempts(address, port), address).toEqual(inUse);
  });

  test('nor with an inherited socket', async (context) => {
    needs(context, 'command cc');
    const socket = await listeningSocket();
    await startDaemon(activated(socket.fd));
    expect(await attempts('::1', socket.port)).toEqual(inUse);
  });
});

test('a client that tries ::1 is refused there at once, and served on 127.0.0.1', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const { port } = await startDaemon({ args: upstream.args });
  const error = await new Promise<NodeJS.ErrnoException>((resolve) => net.connect(port, '::1').once('error', resolve));
  expect(error.code).toBe('ECONNREFUSED');
  expect((await fetch(`http://localhost:${port}/v1/responses`, { method: 'POST', body: '{}' })).status).toBe(200);
});

test('a given port that somebody has on ::1 is an error that says so', async () => {
  const port = await listenOn('::1');
  const exit = await runToExit({ args: ['--port', String(port)] });
  expect(refusalOf(exit, 1)).toBe(`cannot hold [::1]:${port}: address already in use`);
  expect(exit.stderr).toContain('localhost');
});

test('so is that of an inherited socket', async () => {
  const socket = await listeningSocket();
  await listenOn('::1', socket.port);
  expect(refusalOf(await runToExit(activated(socket.fd)), 1)).toBe(`cannot hold [::1]:${socket.port}: address already in use`);
});

describe('a free port that somebody has on ::1', () => {
  const native = createRequire(import.meta.url)(join(checkout, 'dist', 'native', `${process.arch}.node`)) as Native;

  /** Somebody is there first, so many times. */
  function somebody(times: number): { native: Native; taken: number[] } {
    const taken: number[] = [];
    const holdPort = (port: number): number => {
      if (taken.length < times) {
        taken.push(port);
        const held = native.holdPort(port);
        cleanUp(() => closeSync(held));
      }
      return native.holdPort(port);
    };
    return { native: { ...native, holdPort }, taken };
  }

  test('is chosen anew', async () => {
    const server = createServer();
    cleanUp(() => server.close());
    const { native: crowded, taken } = somebody(3);
    const { port, held } = await bind(server, 0, crowded);
    expect(taken).toHaveLength(3);
    expect(taken).not.toContain(port);
    expect(server.address()).toMatchObject({ address: '127.0.0.1', port });
    cleanUp(() => closeSync(held ?? -1));
  });

  test('is an error where that never ends', async () => {
    const server = createServer();
    cleanUp(() => server.close());
    await expect(bind(server, 0, somebody(1_000).native)).rejects.toThrow(/^cannot hold \[::1\]:\d+: address already in use$/);
  });
});

describe('without IPv6 there is nothing to hold', () => {
  test('in the kernel', async (context) => {
    needs(context, 'command cc');
    const daemon = await startDaemon({ prefix: await denying('socket:10=EAFNOSUPPORT') });
    expect((await ask(daemon.port, { method: 'GET' })).status).toBe(403);
  });

  test('on loopback', async (context) => {
    needsNetworkNamespaces(context);
    await startDaemon({ prefix: ['unshare', '--net', ...shell('ip link set lo up; echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6')] });
  });
});

test('a plain user cannot hold a port below 1024, and serves on it if it inherits it', async (context) => {
  needsNetworkNamespaces(context);
  needs(context, 'root and a build that other users can run', 'command python3', 'command setpriv');
  const inherit = 'import os, socket, sys; s = socket.socket(); s.bind(("127.0.0.1", 443)); s.listen(); os.dup2(s.fileno(), 3); os.set_inheritable(3, True); os.execvp(sys.argv[1], sys.argv[1:])';
  const user = ['setpriv', `--reuid=${nobody.uid}`, `--regid=${nobody.gid}`, '--clear-groups'];
  const prefix = ['unshare', '--net', ...shell('ip link set lo up'), 'python3', '-c', inherit, ...user, ...shell('export LISTEN_FDS=1 LISTEN_PID=$$')];
  expect((await startDaemon({ prefix })).port).toBe(443);
});

test('a port that it may not have is an error', async (context) => {
  needs(context, 'command cc');
  const exit = await runToExit({ prefix: await denying('socket:10=EPERM') });
  expect(refusalOf(exit, 1)).toMatch(/^cannot hold \[::1\]:\d+: operation not permitted$/);
});

test('while a daemon finishes its answers, the next one can have its port', async () => {
  const both = await startBoth();
  const { client, request } = await asking(both);
  both.daemon.signal('SIGTERM');
  await expect.poll(() => connect(both.daemon.port).then(() => 'accepted', () => 'refused'), { interval: 5 }).toBe('refused');
  const next = await startDaemon({ args: [...both.upstream.args, '--port', String(both.daemon.port)] });
  await request.reply(answer(200, 'whole'));
  expect((await client.response()).text()).toBe('whole');
  expect(next.port).toBe(both.daemon.port);
});
