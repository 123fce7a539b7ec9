import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { runToExit, randomKey } from '../support/daemon.ts';
import { responses } from '../support/endpoints.ts';
import { chunk } from '../support/http-bytes.ts';
import { scanMemory } from '../support/memory.ts';
import { refusalOf } from '../support/messages.ts';
import { asking, Proxied } from '../support/proxied.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { startRelay } from '../support/relay.ts';
import { startRenewable } from '../support/renewals.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

const expired = /^responses-api-proxy: the key is older than --key-max-age and was wiped/m;

test('once the key is too old, requests get 503 key_expired until the next one comes', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const { daemon, renew } = await startRenewable({ args: [...upstream.args, '--key-max-age', '1.5'] });
  expect((await ask(daemon.port)).status).toBe(200);
  await daemon.waitForStderr(expired);

  const client = await connect(daemon.port);
  for (let count = 0; count < 3; count++) {
    await client.send(rawRequest(daemon.port));
    const response = await client.response();
    expect(response.status).toBe(503);
    expect(response.json()).toMatchObject({ error: { code: 'key_expired' } });
    expect(Number(response.values('retry-after')[0])).toSatisfy((seconds: number) => seconds >= 1 && seconds <= 5);
  }
  expect(upstream.requests).toHaveLength(1);

  const next = randomKey();
  await renew(next);
  // On the connection that was told so too.
  await client.send(rawRequest(daemon.port));
  expect((await client.response()).status).toBe(200);
  expect(upstream.requests[1]?.values('authorization')).toEqual([`Bearer ${next}`]);
});

test('a key that is renewed in time never expires', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const { daemon, renew } = await startRenewable({ args: [...upstream.args, '--key-max-age', '3'] });
  const until = performance.now() + 5_000;
  while (performance.now() < until) {
    await pause(300); // three keys a second: the log tells of more only up to a limit
    await renew(randomKey());
    expect((await ask(daemon.port)).status).toBe(200);
  }
  expect(daemon.stderr).not.toMatch(expired);
});

test('after the end of stdin it expires as well', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const { daemon, stdin } = await startRenewable({ args: [...upstream.args, '--key-max-age', '1.5'] });
  stdin.end();
  await daemon.waitForStderr(expired);
  expect((await ask(daemon.port)).status).toBe(503);
});

test('an answer that runs is not disturbed', async () => {
  const upstream = await startUpstream();
  const { daemon } = await startRenewable({ args: [...upstream.args, '--key-max-age', '1.5'] });
  const { client, request } = await asking(new Proxied(upstream, daemon, responses));
  await request.reply(`${streamHead()}${chunk('before,').toString('latin1')}`);
  await daemon.waitForStderr(expired);
  await request.reply(Buffer.concat([chunk('after'), Buffer.from('0\r\n\r\n')]));
  expect((await client.response()).text()).toBe('before,after');
});

test('a request whose key expires while it waits for a connection gets 503 key_expired too', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const relay = await startRelay(upstream.port, { holds: true });
  const { daemon, renew } = await startRenewable({
    args: ['--upstream-url', upstream.url.replace(`:${upstream.port}/`, `:${relay.port}/`), '--upstream-ca', caFile(), '--key-max-age', '1.5'],
  });
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  await relay.nextConnection();
  await daemon.waitForStderr(expired);
  relay.release();
  const response = await client.response();
  expect(response.status).toBe(503);
  expect(response.json()).toMatchObject({ error: { code: 'key_expired' } });
  expect(response.values('retry-after')).toEqual(['2']);
  expect(upstream.requests).toEqual([]);

  await renew(randomKey());
  expect((await ask(daemon.port)).status).toBe(200);
});

test('the wiped key is nowhere in memory, nor is the one before a renewal', { timeout: 90_000 }, async (context) => {
  needs(context, 'root', 'command cc');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  // Without memfd_secret root can read the locked memory as well.
  const { daemon, renew } = await startRenewable({ prefix: await denying(noMemfdSecret), args: [...upstream.args, '--key-max-age', '15'] });
  const wholes = async (key: string): Promise<number> => (await scanMemory(daemon.pid, key)).found.filter(({ whole }) => whole).length;
  expect((await ask(daemon.port)).status).toBe(200);
  expect(await wholes(daemon.key)).toBe(1);
  const next = randomKey();
  await renew(next);
  expect((await scanMemory(daemon.pid, daemon.key)).found).toEqual([]);
  expect((await ask(daemon.port)).status).toBe(200);
  expect(await wholes(next)).toBe(1);
  await daemon.waitForStderr(expired, 30_000);
  expect((await scanMemory(daemon.pid, next)).found).toEqual([]);
});

test.for([
  [['--key-max-age', '60'], '--key-max-age needs --renewable-key'],
  [['--renewable-key', '--key-max-age', '0'], '--key-max-age takes seconds'],
  [['--renewable-key', '--key-max-age', '1h'], '--key-max-age takes seconds'],
  [['--renewable-key', '--key-max-age', '99999999'], '--key-max-age takes seconds'],
] as const)('%j is refused', async ([args, said]) => {
  expect(refusalOf(await runToExit({ args }), 2)).toContain(said);
});
