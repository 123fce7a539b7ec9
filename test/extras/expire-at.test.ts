import net from 'node:net';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { linesOf } from '../support/audit.ts';
import { parseTimestamp } from '../../src/extras/timestamp.ts';
import { failureOf } from '../support/command-line.ts';
import { type Daemon, type DaemonOptions, launch, randomKey, runToExit, startDaemon } from '../support/daemon.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { duringLoan } from '../support/loan.ts';
import { scanMemory } from '../support/memory.ts';
import { refusalOf } from '../support/messages.ts';
import { policyArgs } from '../support/policy.ts';
import { isAwaitingKey } from '../support/process.ts';
import { asking, startBoth, uploadHead } from '../support/proxied.ts';
import { type RawResponse, ask, connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

const at = (ms: number): string => new Date(ms).toISOString();
const isOver = (daemon: Daemon): Promise<unknown> => daemon.waitForStderr(/^responses-api-proxy: the loan is over/m);

function expectExpired(refused: RawResponse): void {
  expect(refused.status).toBe(400);
  expect(refused.values('x-should-retry')).toEqual(['false']);
  expect(envelopeOf(refused)).toMatchObject({ code: 'loan_expired', message: expect.stringMatching(/^This key was lent until \d{4}-.*Z; that time is over\.$/) });
}

test('at that time new requests are told so, and running answers go on', async () => {
  const { log, both, running, slow } = await duringLoan(async (args) => {
    const log = join(scratchFolder(), 'audit.log');
    const both = await startBoth({ args: [...args, '--audit-log', log, '--http-health'] });
    const running = await asking(both);
    await running.request.reply(streamHead());
    const slow = await connect(both.daemon.port);
    await slow.send(`${uploadHead(both.daemon.port, 'Content-Length: 10')}`);
    return { log, both, running, slow };
  });
  await isOver(both.daemon);
  expectExpired(await ask(both.daemon.port));
  await slow.send('0123456789');
  expectExpired(await slow.response());
  await running.request.reply(`${chunk('data: late\n\n').toString('latin1')}0\r\n\r\n`);
  const response = await running.client.response();
  expect([response.status, response.text()]).toEqual([200, 'data: late\n\n']);
  expect(both.upstream.requests).toHaveLength(1);
  expect(linesOf(log).filter(({ rule }) => rule === 'expire_at')).toMatchObject([{ decision: 'refused', status: 400 }, { decision: 'refused', status: 400 }]);
  expect((await both.daemon.stop()).code).toBe(0);
});

test('in shadow mode, too', async () => {
  const both = await duringLoan((args) => startBoth({ args: [...args, ...policyArgs({ mode: 'shadow', models: ['gpt-*'] })] }));
  await isOver(both.daemon);
  expectExpired(await ask(both.daemon.port));
  expect(both.upstream.requests).toHaveLength(0);
});

test('a request that waits for its connection is not sent', async () => {
  const [silent, open] = [net.createServer(), [] as net.Socket[]];
  silent.on('connection', (socket) => open.push(socket.on('error', () => {})));
  const port = await new Promise<number>((resolve) => silent.listen(0, '127.0.0.1', () => resolve((silent.address() as net.AddressInfo).port)));
  const both = await startBoth({ args: [] }); // its upstream is where the connection leads in the end
  const upstreamArgs = both.upstream.args.map((arg) => arg.replace(`:${both.upstream.port}`, `:${port}`));
  const { daemon, client } = await duringLoan(async (args) => {
    const daemon = await startDaemon({ args: [...upstreamArgs, '--connect-timeout', '0', ...args] });
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    return { daemon, client };
  });
  await isOver(daemon);
  silent.on('connection', (socket) => lead(socket, both.upstream.port));
  for (const socket of open) lead(socket, both.upstream.port);
  expectExpired(await client.response());
  expect(both.upstream.requests).toHaveLength(0);
  for (const socket of open) socket.destroy();
  silent.close();
});

function lead(socket: net.Socket, port: number): void {
  const onward = net.connect(port, '127.0.0.1').on('error', () => {});
  socket.pipe(onward).pipe(socket);
}

test('the key is gone from memory', async (context) => {
  needs(context, 'root', 'command cc');
  const prefix = await denying(noMemfdSecret);
  const { daemon } = await duringLoan(async (args) => {
    const both = await startBoth({ args, daemon: { prefix }, upstream: { answer: answer(200, '{}') } });
    expect((await both.ask()).status).toBe(200);
    expect((await scanMemory(both.daemon.pid, both.daemon.key)).found.some(({ whole }) => whole)).toBe(true);
    return both;
  });
  await isOver(daemon);
  const look = await scanMemory(daemon.pid, daemon.key);
  expect(look.bytesRead).toBeGreaterThan(20_000_000);
  expect(look.found).toEqual([]);
});

test('a key that renews it afterwards is not kept', async (context) => {
  needs(context, 'root', 'command cc');
  const keys = [randomKey(), randomKey()];
  let pipe: Writable | undefined;
  const stdin: DaemonOptions['stdin'] = (writable) => (pipe = writable).write(`${keys[0]}\n`);
  const prefix = await denying(noMemfdSecret);
  const both = await duringLoan((args) => startBoth({ args: [...args, '--renewable-key'], daemon: { stdin, prefix } }));
  await isOver(both.daemon);
  pipe?.write(`${keys[1]}\n`);
  await both.daemon.waitForStderr(/not taken/);
  expect(both.daemon.stderr).not.toContain('renewed');
  for (const key of keys) expect((await scanMemory(both.daemon.pid, key)).found).toEqual([]);
  expectExpired(await ask(both.daemon.port));
});

test('--check says until when, and that it is over', async () => {
  const { args: upstream } = await startUpstream();
  const args = (time: number): readonly string[] => ['--check', ...upstream, '--expire-at', at(time)];
  expect((await runToExit({ args: args(Date.UTC(2999, 0)) })).stdout).toMatch(/lends until +2999-01-01T00:00:00\.000Z/);
  expect(refusalOf(await runToExit({ args: args(Date.now() - 1) }), 1)).toMatch(/has passed$/);
  expect(refusalOf(await runToExit({ args: ['--expire-at', 'tomorrow'] }), 2)).toMatch(/^--expire-at takes a time/);
});

test('a start after that time is refused, however it is written', async () => {
  const past = Date.now() - 1_000;
  const inTokyo = `${at(past + 9 * 3_600_000).slice(0, 19)}+09:00`;
  const times = [at(past), inTokyo, '1970-01-01T00:00:00Z', '2020-02-29t23:59:59z'];
  for (const time of times) expect(parseTimestamp(time), time).toBeLessThanOrEqual(past);
  expect(refusalOf(await runToExit({ args: ['--expire-at', inTokyo] }), 1)).toMatch(/^--expire-at .* has passed$/);
});

test('a key that comes after that time is refused', async () => {
  const { running, until } = await duringLoan(async (args, until) => {
    const running = launch({ args, stdin: () => {} });
    await expect.poll(() => isAwaitingKey(running), { interval: 20 }).toBe(true);
    return { running, until };
  });
  await sleep(until.getTime() - Date.now() + 1);
  running.child.stdin?.end('sk-late\n');
  expect(refusalOf(await running.waitForExit(), 1)).toMatch(/^--expire-at .* has passed$/);
});

test('a time is far enough away, however far', async () => {
  const both = await startBoth({ args: ['--expire-at', at(Date.now() + 2 ** 31 + 5_000)] }); // more than a timer takes
  both.upstream.answerWith(answer(200, '{}'));
  expect((await ask(both.daemon.port)).status).toBe(200);
  expect(both.daemon.stderr).not.toContain('over');
  expect(parseTimestamp('9999-12-31T23:59:59Z')).toBe(253_402_300_799_000);
  expect(parseTimestamp('2999-01-01 00:00:00.123456789-11:30')).toBe(Date.UTC(2999, 0, 1, 11, 30, 0, 123));
});

test.each(['tomorrow', '24h', '2999-01-01', '2999-01-01T00:00Z', '2999-01-01T00:00:00', '2999-02-30T00:00:00Z', '2999-01-01T24:00:00Z', '2999-01-01T00:00:60Z', '2999-01-01T00:00:00+24:00',
  '2999-01-01T00:00:00+0100', '1893456000', '', ' 2999-01-01T00:00:00Z'])('%j is no time', async (time) => {
  expect((await failureOf(() => parseTimestamp(time), 2)).message).toMatch(/^--expire-at takes a time such as/);
});
