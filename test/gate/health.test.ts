import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { chunk } from '../support/http-bytes.ts';
import { judged } from '../support/judged.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { startUpstream, streamHead } from '../support/upstream.ts';

const health = { method: 'GET', target: '/health' } as const;

test('GET /health answers 200 while serving', async () => {
  const daemon = await startDaemon({ args: ['--http-health'] });
  expect((await ask(daemon.port, health)).status).toBe(200);
  expect((await ask(daemon.port, { ...health, headers: [['Origin', 'https://example.test']] })).status).toBe(403);
});

test.for(['/health?', '/health/', '/Health', '//health', '/health?x=1'])('only exactly: %s is 403', (target) => {
  expect(judged({ method: 'GET', target }, { health: true })).toBe('403 endpoint_not_allowed');
});

test('without the flag it is 403, like everything else', async () => {
  const daemon = await startDaemon();
  expect((await ask(daemon.port, health)).status).toBe(403);
});

test('the gate applies to it', () => {
  expect(judged(health, { health: true })).toBe('health');
  expect(judged({ ...health, method: 'POST' }, { health: true })).toBe('403 endpoint_not_allowed');
  expect(judged({ ...health, host: 'evil.example' }, { health: true })).toBe('403 host_not_allowed');
  expect(judged(health, { health: true, token: Buffer.from('x') })).toBe('401 invalid_token');
});

test('it answers 503 while the daemon stops, and does not keep it from stopping', async () => {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: [...upstream.args, '--http-health', '--http-shutdown'] });
  const [streaming, watching] = await Promise.all([connect(daemon.port), connect(daemon.port)]);
  await watching.send(rawRequest(daemon.port, health));
  expect((await watching.response()).status).toBe(200);
  await streaming.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  await request.reply(streamHead());
  expect((await ask(daemon.port, { method: 'GET', target: '/shutdown' })).status).toBe(200);
  await watching.send(rawRequest(daemon.port, health));
  expect((await watching.response()).status).toBe(503);
  await request.reply(Buffer.concat([chunk('data: end\n\n'), Buffer.from('0\r\n\r\n')]));
  expect((await streaming.response()).complete).toBe(true);
  expect(await daemon.waitForExit()).toMatchObject({ code: 0 });
});
