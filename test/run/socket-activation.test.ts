import { closeSync, openSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { isSocketActivated } from '../../src/run/inherited-socket.ts';
import { failureOf, misuseOf } from '../support/command-line.ts';
import { runToExit, shell, startDaemon, type Daemon } from '../support/daemon.ts';
import { activated, boundSocket, listeningSocket } from '../support/inherited-socket.ts';
import { chunk } from '../support/http-bytes.ts';
import { refusalOf } from '../support/messages.ts';
import { asking, Proxied } from '../support/proxied.ts';
import { responses } from '../support/endpoints.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

test('it serves on the inherited socket, announces its port and wants it in the Host header', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const socket = await listeningSocket();
  const info = join(scratchFolder(), 'info.json');
  const daemon = await startDaemon({ ...activated(socket.fd), args: [...upstream.args, '--server-info', info] });
  expect(daemon.port).toBe(socket.port);
  expect(JSON.parse(readFileSync(info, 'utf8'))).toEqual({ port: socket.port, pid: daemon.pid });
  expect((await ask(socket.port)).status).toBe(200);
  expect((await ask(socket.port, { host: '127.0.0.1' })).text()).toContain('host_not_allowed');
  expect((await ask(socket.port, { host: `127.0.0.1:${socket.port + 1}` })).text()).toContain('host_not_allowed');
});

test('clients that connect before it starts wait, and are served', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const socket = await listeningSocket();
  const clients = await Promise.all(Array.from({ length: 20 }, () => connect(socket.port)));
  for (const client of clients) await client.send(rawRequest(socket.port));
  await startDaemon({ ...activated(socket.fd), args: upstream.args });
  for (const client of clients) expect((await client.response()).status).toBe(200);
});

async function inherited(): Promise<{ both: Proxied; start: () => Promise<Daemon> }> {
  const upstream = await startUpstream();
  const socket = await listeningSocket();
  const start = (): Promise<Daemon> => startDaemon({ ...activated(socket.fd), args: [...upstream.args, '--http-health'] });
  return { both: new Proxied(upstream, await start(), responses), start };
}

/** Asks it to stop, and resolves once it has heard: then a connection that it keeps is told so. */
async function stopping({ daemon }: Proxied): Promise<void> {
  const client = await connect(daemon.port);
  const health = async (): Promise<number> => {
    await client.send(rawRequest(daemon.port, { method: 'GET', target: '/health' }));
    return (await client.response()).status;
  };
  expect(await health()).toBe(200);
  daemon.signal('SIGTERM');
  while ((await health()) === 200);
}

describe('while it stops', () => {
  test('a client that was connected and has not asked yet is served, and told that the connection ends', async () => {
    const { both } = await inherited();
    const running = await asking(both);
    const fresh = await connect(both.daemon.port);
    both.upstream.answerWith(answer(200, 'late'));
    await stopping(both);
    await fresh.send(rawRequest(both.daemon.port));
    const response = await fresh.response();
    expect([response.status, response.text(), response.values('connection')]).toEqual([200, 'late', ['close']]);
    await running.request.reply(answer(200, 'whole'));
    expect((await running.client.response()).text()).toBe('whole');
    expect((await both.daemon.waitForExit()).code).toBe(0);
  });

  test('a client that keeps its connection after an answer that had begun is served once more', async () => {
    const { both } = await inherited();
    const { client, request } = await asking(both);
    await request.reply(`${streamHead()}${chunk('one').toString('latin1')}`);
    await client.waitFor('one');
    await stopping(both);
    both.upstream.answerWith(answer(200, 'once more'));
    await request.reply('0\r\n\r\n');
    expect((await client.response()).values('connection')).not.toContain('close');
    await client.send(rawRequest(both.daemon.port));
    const last = await client.response();
    expect([last.text(), last.values('connection')]).toEqual(['once more', ['close']]);
    expect((await both.daemon.waitForExit()).code).toBe(0);
  });

  test('a new connection waits for the next daemon', async () => {
    const { both, start } = await inherited();
    const { client, request } = await asking(both);
    await stopping(both);
    await request.reply(answer(200, 'whole'));
    expect((await client.response()).values('connection')).toEqual(['close']);
    await both.daemon.waitForExit();
    const waiting = await connect(both.daemon.port);
    await waiting.send(rawRequest(both.daemon.port));
    both.upstream.answerWith(answer(200, 'served'));
    await start();
    expect((await waiting.response()).text()).toBe('served');
  });

  test('clients that never ask do not keep it for long', async () => {
    const { both } = await inherited();
    for (let count = 0; count < 3; count++) await connect(both.daemon.port);
    await (await connect(both.daemon.port)).send('POST /v1/resp');
    both.daemon.signal('SIGTERM');
    expect((await both.daemon.waitForExit()).code).toBe(0);
  });
});

test('a socket that is bound and does not listen yet is served', async () => {
  const socket = boundSocket();
  const daemon = await startDaemon(activated(socket.fd));
  expect(daemon.port).toBe(socket.port);
});

describe('refused, with what to pass', () => {
  async function refusal(fd: number): Promise<string> {
    const exit = await runToExit(activated(fd));
    expect(exit.stderr).toContain('hint: pass one socket that listens on 127.0.0.1');
    const [, why = ''] = /^cannot serve on the inherited descriptor 3 \(LISTEN_FDS\): (.*)$/.exec(refusalOf(exit, 1)) ?? [];
    return why;
  }

  async function serverOn(options: net.ListenOptions): Promise<number> {
    const server = net.createServer((socket) => socket.destroy());
    server.listen(options);
    await once(server, 'listening');
    cleanUp(() => server.close());
    return (server as unknown as { _handle: { fd: number } })._handle.fd;
  }

  test('an IPv6 socket that takes IPv4 too', async () => {
    expect(await refusal(await serverOn({ host: '::', port: 0 }))).toMatch(/bound to :::\d+, not to 127\.0\.0\.1/);
  });

  test('a socket bound to all addresses', async () => {
    expect(await refusal(await serverOn({ host: '0.0.0.0', port: 0 }))).toMatch(/bound to 0\.0\.0\.0:\d+, not to 127\.0\.0\.1/);
  });

  test('a socket bound to another address of loopback', async () => {
    expect(await refusal(await serverOn({ host: '127.0.0.2', port: 0 }))).toMatch(/bound to 127\.0\.0\.2:\d+/);
  });

  test('a UNIX socket', async () => {
    expect(await refusal(await serverOn({ path: join(scratchFolder(), 'socket') }))).toBe('it is a UNIX socket');
  });

  test('a UDP socket', async () => {
    const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
    await once(socket, 'listening');
    cleanUp(() => socket.close());
    // By its port in /proc/net/udp, inode and descriptor: node has no name for it.
    const local = `0100007F:${socket.address().port.toString(16).toUpperCase().padStart(4, '0')}`;
    const inode = readFileSync('/proc/net/udp', 'latin1').split('\n').map((line) => line.trim().split(/\s+/)).find((fields) => fields[1] === local)?.[9];
    const fd = readdirSync('/proc/self/fd').find((name) => isLink(name, `socket:[${inode}]`));
    expect(await refusal(Number(fd))).toContain('invalid argument');
  });

  test('a connection', async () => {
    const socket = await listeningSocket();
    const client = net.connect(socket.port, '127.0.0.1');
    await once(client, 'connect');
    cleanUp(() => client.destroy());
    const { fd } = (client as unknown as { _handle: { fd: number } })._handle;
    expect(await refusal(fd)).toContain('invalid argument');
  });

  test('a file, and a descriptor that is not open', async () => {
    const fd = openSync('/dev/null', 'r');
    cleanUp(() => closeSync(fd));
    expect(await refusal(fd)).toContain('invalid argument');
    const exit = await runToExit({ prefix: shell('exec 3<&-; export LISTEN_FDS=1 LISTEN_PID=$$') });
    expect(refusalOf(exit, 1)).toContain('LISTEN_FDS');
  });

  test.for(['0', '2', '-1', '', 'x', '1 '])('LISTEN_FDS=%j', async (count) => {
    expect((await failureOf(() => isSocketActivated({ LISTEN_FDS: count, LISTEN_PID: '123' }, 123), 1)).message).toContain(`LISTEN_FDS is "${count}"`);
  });

  test.for([
    [['--port', '8787'], '--port'],
    [['--http-shutdown'], '--http-shutdown'],
  ] as const)('%j beside it', async ([args, flag]) => {
    const { message } = await misuseOf(args, { LISTEN_FDS: '1', LISTEN_PID: String(process.pid) });
    expect(message).toContain(`${flag} cannot go with an inherited socket`);
  });
});

test.for([{ LISTEN_FDS: '1', LISTEN_PID: '1' }, { LISTEN_FDS: '1' }, { LISTEN_PID: '123' }, { LISTEN_FDS: '2', LISTEN_PID: '1' }, { LISTEN_FDS: '1', LISTEN_PID: '123 ' }, { LISTEN_FDS: '1', LISTEN_PID: '0x7b' }])('%j is not meant for process 123', (variables) => {
  expect(isSocketActivated(variables, 123)).toBe(false);
});

test('variables that are meant for its parent are ignored', async () => {
  const socket = await listeningSocket();
  const daemon = await startDaemon({ ...activated(socket.fd, 'LISTEN_FDS=1 LISTEN_PID=$PPID'), args: ['--http-shutdown'] });
  expect(daemon.port).not.toBe(socket.port);
});

test('the other variables of sd_listen_fds(3) do not reach node', async (context) => {
  needs(context, 'root'); // the daemon's own user may not look
  const socket = await listeningSocket();
  const daemon = await startDaemon(activated(socket.fd, 'LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=http LISTEN_PIDFDID=7'));
  const names = readFileSync(`/proc/${daemon.pid}/environ`, 'latin1').split('\0').map((entry) => entry.split('=')[0]);
  expect(names).toEqual(expect.arrayContaining(['LISTEN_FDS', 'LISTEN_PID']));
  expect(names.filter((name) => name?.startsWith('LISTEN_'))).toHaveLength(2);
});

/** Whether a descriptor of ours leads there. It may be closed by now: reading the folder opens one. */
function isLink(descriptor: string, target: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`) === target;
  } catch {
    return false;
  }
}
