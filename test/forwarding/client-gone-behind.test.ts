import { beforeAll, beforeEach, expect, test } from 'vitest';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';

// A refusal that ends the connection waits for the answers before it, and a connection is not read while much waits on it.
// A client that leaves meanwhile must not go unnoticed: the upstream would work for nobody.

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

const refused = {
  'an expectation that is not understood': { target: '/v1/responses', expect: 'magic' },
  'a path that is not served': { target: '/v1/models', expect: '100-continue' },
} as const;

test.for(Object.entries(refused))('behind a refusal for %s, a client that leaves is noticed', async ([, { target, expect: expectation }]) => {
  const { client, request } = await asking(both);
  // Its body never comes.
  await client.send(`POST ${target} HTTP/1.1\r\nHost: 127.0.0.1:${both.daemon.port}\r\nExpect: ${expectation}\r\nContent-Length: 2\r\n\r\n`);
  const refusal = await both.daemon.waitForStderr(/refused \((\w+)\)/);
  expect(refusal[1]).toMatch(/expectation_failed|endpoint_not_allowed/);
  client.close();
  await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
});

test('with 200 refused requests behind the first, a client that leaves is noticed', async () => {
  const { client, request } = await asking(both);
  for (let sent = 0; sent < 200; sent++) void client.send(both.rawRequest({ method: 'GET', target: '/nope' }));
  expect((await both.ask({ method: 'GET' })).status).toBe(403); // the daemon has read as much as it will
  client.close();
  await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
});
