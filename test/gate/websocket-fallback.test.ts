import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

const handshake: HeaderLines = [
  ['Connection', 'Upgrade'],
  ['Upgrade', 'websocket'],
  ['Sec-WebSocket-Version', '13'],
  ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ=='],
];
const get = { method: 'GET', headers: handshake } as const;

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: [...upstream.args, '--websocket-fallback'] });
});

test.for([
  ['a handshake', handshake],
  ['a handshake with an expectation', [...handshake, ['Expect', '100-continue']]],
] as const)('%s on the endpoint is answered 426 with the protocol to use, and the connection closes', async ([, headers]) => {
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port, { method: 'GET', headers }));
  const response = await client.response();
  expect(response.status).toBe(426);
  expect(response.values('upgrade')).toEqual(['HTTP/1.1']);
  expect(response.values('connection')).toEqual(['upgrade, close']);
  expect(envelopeOf(response).code).toBe('websocket_not_served');
  expect(await client.waitForClose()).toBe('end');
});

test('the POST that the client falls back to is served', async () => {
  expect((await ask(daemon.port)).status).toBe(200);
});

describe('everything else is refused as without the flag', () => {
  test.for<[string, Parameters<typeof ask>[1], number]>([
    ['another target', { ...get, target: '/v1/models' }, 403],
    ['a query', { ...get, target: '/v1/responses?x=1' }, 403],
    ['a GET without Upgrade', { method: 'GET' }, 403],
    ['an Upgrade to something else', { method: 'GET', headers: [['Connection', 'Upgrade'], ['Upgrade', 'h2c']] }, 403],
    ['a browser', { method: 'GET', headers: [...handshake, ['Origin', 'https://evil.example']] }, 403],
    ['another Host', { ...get, host: 'evil.example' }, 403],
  ])('%s', async ([, request, status]) => {
    expect((await ask(daemon.port, request)).status).toBe(status);
  });

  test('a handshake without the token', async () => {
    const file = join(scratchFolder(), 'token');
    writeFileSync(file, 'a-token-of-some-length-0123456789', { mode: 0o600 });
    const locked = await startDaemon({ args: [...upstream.args, '--websocket-fallback', '--client-token-file', file] });
    expect((await ask(locked.port, get)).status).toBe(401);
    expect((await ask(locked.port, { ...get, headers: [...handshake, ['Authorization', 'Bearer a-token-of-some-length-0123456789']] })).status).toBe(426);
  });
});

test('without the flag a handshake is 403', async () => {
  const plain = await startDaemon({ args: upstream.args });
  expect((await ask(plain.port, get)).status).toBe(403);
});
