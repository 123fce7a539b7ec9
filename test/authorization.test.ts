import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from './support/daemon.ts';
import type { HeaderLines } from './support/http-bytes.ts';
import { ask, connect, rawRequest } from './support/raw-client.ts';
import { answer, startUpstream, type Upstream } from './support/upstream.ts';

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: upstream.args });
});

const sent: Record<string, HeaderLines> = {
  'none': [],
  'another key': [['Authorization', 'Bearer sk-theirs']],
  'in lower case': [['authorization', 'Bearer sk-theirs']],
  'oddly cased': [['aUTHORIZATION', 'bEARER sk-theirs']],
  'doubled': [['Authorization', 'Bearer sk-theirs-1'], ['Authorization', 'Bearer sk-theirs-2']],
  'doubled in different cases': [['Authorization', 'Bearer sk-theirs-1'], ['X-Between', '1'], ['AUTHORIZATION', 'Bearer sk-theirs-2']],
  'another scheme': [['Authorization', 'Basic c2stdGhlaXJzOg==']],
  'empty': [['Authorization', '']],
  'a list': [['Authorization', 'Bearer sk-theirs, Basic sk-theirs']],
  'very long': [['Authorization', `Bearer sk-theirs${'x'.repeat(20_000)}`]],
  'nominated as hop-by-hop': [['Connection', 'authorization'], ['Authorization', 'Bearer sk-theirs']],
};

describe('the upstream sees the key, once, and nothing of what the client sent', () => {
  test.for(Object.entries(sent))('Authorization: %s', async ([, headers]) => {
    const [response, request] = await Promise.all([ask(daemon.port, { headers }), upstream.nextRequest()]);
    expect(response.status).toBe(200);
    expect(request.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
    expect(request.rawHead).not.toContain('sk-theirs');
    expect(request.rawHead.split(daemon.key)).toHaveLength(2);
  });
});

test('each of many requests on one connection gets it', async () => {
  const before = upstream.requests.length;
  const client = await connect(daemon.port);
  for (let count = 0; count < 20; count++) {
    await client.send(rawRequest(daemon.port, { headers: [['Authorization', `Bearer sk-theirs-${count}`]] }));
    expect((await client.response()).status).toBe(200);
  }
  const seen = upstream.requests.slice(before).map((request) => request.values('authorization'));
  expect(seen).toEqual(Array.from({ length: 20 }, () => [`Bearer ${daemon.key}`]));
});

test('each of many requests at once gets it', async () => {
  const before = upstream.requests.length;
  const responses = await Promise.all(Array.from({ length: 40 }, (_, index) => ask(daemon.port, { body: `{"n":${index}}` })));
  expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
  const seen = upstream.requests.slice(before).map((request) => request.values('authorization'));
  expect(seen).toEqual(Array.from({ length: 40 }, () => [`Bearer ${daemon.key}`]));
});

test('the client never sees the key', async () => {
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  await client.response();
  await client.send(rawRequest(daemon.port, { method: 'GET', target: '/' }));
  await client.response();
  expect(client.text).not.toContain(daemon.key);
});
