import { beforeAll, describe, expect, test } from 'vitest';
import { credentialHeaders } from '../support/credentials.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

describe.for(Object.entries(credentialHeaders))('%s', ([, { args, name, valueWith }]) => {
  let upstream: Upstream;
  let daemon: Daemon;

  beforeAll(async () => {
    upstream = await startUpstream({ answer: answer(200, '{}') });
    daemon = await startDaemon({ args: [...upstream.args, ...args] });
  });

  const [lowerCased, upperCased] = [name.toLowerCase(), name.toUpperCase()];
  const sent: Record<string, HeaderLines> = {
    'none': [],
    'another key': [[name, valueWith('sk-theirs')]],
    'in lower case': [[lowerCased, 'Bearer sk-theirs']],
    'oddly cased': [[`${lowerCased.slice(0, 1)}${upperCased.slice(1)}`, 'bEARER sk-theirs']],
    'doubled': [[name, 'Bearer sk-theirs-1'], [name, 'Bearer sk-theirs-2']],
    'doubled in different cases': [[name, 'Bearer sk-theirs-1'], ['X-Between', '1'], [upperCased, 'Bearer sk-theirs-2']],
    'another scheme': [[name, 'Basic c2stdGhlaXJzOg==']],
    'empty': [[name, '']],
    'a list': [[name, 'Bearer sk-theirs, Basic sk-theirs']],
    'very long': [[name, `Bearer sk-theirs${'x'.repeat(20_000)}`]],
    'nominated as hop-by-hop': [['Connection', lowerCased], [name, 'Bearer sk-theirs']],
    'beside Authorization': [['Authorization', 'Bearer sk-theirs-1'], [name, 'sk-theirs-2'], ['authorization', 'Basic sk-theirs-3']],
  };

  describe('the upstream sees the key, once, and nothing of what the client sent of that header:', () => {
    test.for(Object.entries(sent))('%s', async ([, headers]) => {
      const [response, request] = await Promise.all([ask(daemon.port, { headers }), upstream.nextRequest()]);
      expect(response.status).toBe(200);
      expect(request.values(name)).toEqual([valueWith(daemon.key)]);
      expect(request.values('authorization')).toEqual(name === 'Authorization' ? [valueWith(daemon.key)] : []);
      expect(request.rawHead).not.toContain('sk-theirs');
      expect(request.rawHead.split(daemon.key)).toHaveLength(2);
    });
  });

  test('each of many requests on one connection gets it', async () => {
    const before = upstream.requests.length;
    const client = await connect(daemon.port);
    for (let count = 0; count < 20; count++) {
      await client.send(rawRequest(daemon.port, { headers: [[name, `Bearer sk-theirs-${count}`]] }));
      expect((await client.response()).status).toBe(200);
    }
    const seen = upstream.requests.slice(before).map((request) => request.values(name));
    expect(seen).toEqual(Array.from({ length: 20 }, () => [valueWith(daemon.key)]));
  });

  test('each of many requests at once gets it', async () => {
    const before = upstream.requests.length;
    const responses = await Promise.all(Array.from({ length: 40 }, (_, index) => ask(daemon.port, { body: `{"n":${index}}` })));
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
    const seen = upstream.requests.slice(before).map((request) => request.values(name));
    expect(seen).toEqual(Array.from({ length: 40 }, () => [valueWith(daemon.key)]));
  });

  test('the client never sees the key', async () => {
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    await client.response();
    await client.send(rawRequest(daemon.port, { method: 'GET', target: '/' }));
    await client.response();
    expect(client.text).not.toContain(daemon.key);
  });
});
