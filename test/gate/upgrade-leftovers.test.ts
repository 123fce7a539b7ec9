import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { connect, parseResponses, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

// An Upgrade is ignored. What follows in the same packet is a request like any other and must not get lost:
// otherwise the parser would continue in the middle of it, and take its body for the next request.

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
});

const upgrades = {
  'an admitted request': { target: '/v1/responses', status: 200 },
  'a refused request': { target: '/v1/models', status: 403 },
} as const;

describe.for(Object.entries(upgrades))('behind the Upgrade of %s', ([, { target, status }]) => {
  const upgrade = (): Buffer => rawRequest(daemon.port, { target, headers: [['Connection', 'Upgrade'], ['Upgrade', 'h2c']] });

  test('a request is answered, or the connection closed', async () => {
    const client = await connect(daemon.port);
    await client.send(Buffer.concat([upgrade(), rawRequest(daemon.port)]));
    expect((await client.response()).status).toBe(status);
    await client.until(() => client.ending !== undefined || parseResponses(client.received, false).length === 2, 'a second answer, or the end');
    for (const { status: second } of parseResponses(client.received, true).slice(1)) expect(second).toBe(200);
  });

  test('a body is never taken for a request', async () => {
    const before = upstream.requests.length;
    const smuggled = rawRequest(daemon.port, { headers: [['X-Smuggled', 'yes']] });
    const carrier = rawRequest(daemon.port, { headers: [['X-Carrier', 'yes']], body: smuggled });
    const client = await connect(daemon.port);
    await client.send(Buffer.concat([upgrade(), carrier.subarray(0, carrier.length - smuggled.length)]));
    expect((await client.response()).status).toBe(status);
    await client.send(smuggled);
    await client.until(() => client.ending !== undefined || parseResponses(client.received, false).length === 2, 'a second answer, or the end');
    const smuggledRequests = upstream.requests.slice(before).filter((request) => request.values('x-smuggled').length > 0);
    expect(smuggledRequests).toEqual([]);
  });
});
