import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { mebibyte } from '../support/process-facts.ts';
import { seed, Random } from '../support/random.ts';
import { type Proxied, asking, startBoth } from '../support/proxied.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, type UpstreamConnection } from '../support/upstream.ts';

test('one connection carries request after request', async () => {
  const both = await startBoth({ upstream: { answer: answer(200, '{}') } });
  for (let count = 0; count < 30; count++) expect((await ask(both.daemon.port, { body: String(count) })).status).toBe(200);
  expect(both.upstream.requests.map(({ body }) => body.toString())).toEqual(Array.from({ length: 30 }, (_, index) => String(index)));
  expect(both.upstream.connections).toHaveLength(1);
});

test('requests at once have a connection each, which later ones use again', async () => {
  const both = await startBoth();
  const first = [];
  for (let count = 0; count < 5; count++) first.push(await asking(both));
  expect(new Set(first.map(({ request }) => request.connection)).size).toBe(5);
  for (const { client, request } of first) {
    await request.reply(answer(200, '{}'));
    await client.response();
  }
  both.startOver(answer(200, '{}'));
  for (let count = 0; count < 20; count++) await ask(both.daemon.port);
  expect(both.upstream.connections).toHaveLength(5);
});

test.for(['TLSv1.2', 'TLSv1.3'] as const)('a new connection resumes the session of an earlier one, %s', async (version) => {
  const upstream = await startUpstream({ answer: answer(200, '{}', [['connection', 'close']]), secureContext: { minVersion: version, maxVersion: version } });
  const daemon = await startDaemon({ args: upstream.args });
  for (let count = 0; count < 5; count++) expect((await ask(daemon.port)).status).toBe(200);
  expect(upstream.connections).toHaveLength(5);
  expect(upstream.sessionsReused).toBe(4);
});

test('a session is resumed after much has passed, too: garbage collection does not take it', async () => {
  const both = await startBoth();
  both.startOver(answer(200, '{}'));
  const body = Buffer.alloc(mebibyte, 'a');
  for (let count = 0; count < 50; count++) await both.ask({ body });
  for (const connection of both.upstream.openConnections) connection.close();
  await both.ask();
  expect(both.upstream.connections.length).toBeGreaterThan(1);
  expect(both.upstream.connections.slice(1).map(({ sessionReused }) => sessionReused)).not.toContain(false);
});

describe('a connection that the upstream closes while it lies idle', () => {
  let both: Proxied;

  beforeAll(async () => {
    both = await startBoth();
  });

  beforeEach(() => both.startOver(answer(200, '{}')));

  const ways: ReadonlyArray<readonly [string, (connection: UpstreamConnection) => void]> = [
    ['FIN', (connection) => connection.close()],
    ['close_notify and FIN', (connection) => connection.halfClose()],
    ['RST', (connection) => connection.reset()],
  ];

  test.for(ways)('%s, before the next request: that goes out once, on a fresh one', async ([, close]) => {
    const before = both.upstream.requests.length;
    const told = both.daemon.stderr.length;
    const client = await connect(both.daemon.port);
    for (let count = 0; count < 20; count++) {
      await client.send(rawRequest(both.daemon.port, { body: String(count) }));
      expect((await client.response()).status, `request ${count}`).toBe(200);
      const { connection } = await both.nextRequest();
      close(connection);
      // After these lines its FIN or RST is in the kernel, but the daemon may not have read it yet.
    }
    expect(both.upstream.requests.slice(before).map(({ body }) => body.toString())).toEqual(Array.from({ length: 20 }, (_, index) => String(index)));
    expect(both.daemon.stderr.slice(told)).not.toMatch(/upstream_/);
  });

  test.for(ways.slice(0, 2))('%s, right behind the answer', async ([, close]) => {
    const before = both.upstream.requests.length;
    const told = both.daemon.stderr.length;
    both.upstream.answerWith((request) => {
      void request.reply(answer(200, request.body));
      close(request.connection);
    });
    const client = await connect(both.daemon.port);
    for (let count = 0; count < 20; count++) {
      await client.send(rawRequest(both.daemon.port, { body: String(count) }));
      expect((await client.response()).text()).toBe(String(count));
    }
    expect(both.upstream.requests).toHaveLength(before + 20);
    expect(both.daemon.stderr.slice(told)).not.toMatch(/upstream_/);
  });

  test.for(ways)(`%s, at about the moment of the next request: no request is ever sent twice (seed ${seed})`, async ([, close]) => {
    const random = new Random(seed);
    const before = both.upstream.requests.length;
    const client = await connect(both.daemon.port);
    let failed = 0;
    for (let count = 0; count < 80; count++) {
      const body = `request ${count}`;
      const sent = client.send(rawRequest(both.daemon.port, { body }));
      const last = both.upstream.openConnections.at(-1);
      if (last !== undefined) {
        for (let turn = random.whole(0, 3); turn > 0; turn--) await new Promise((resolve) => setImmediate(resolve));
        // Only while it is idle: a request that has already arrived may fail.
        if (last.requests.length === 0 || last.requests.at(-1)?.body.toString() !== body) close(last);
      }
      await sent;
      const response = await client.response();
      expect([200, 502]).toContain(response.status);
      if (response.status === 502) failed += 1;
    }
    const arrived = both.upstream.requests.slice(before).map((request) => request.body.toString());
    expect(new Set(arrived).size).toBe(arrived.length);
    // A request whose bytes have been sent cannot be sent again; that must stay the exception.
    expect(failed).toBeLessThan(80 / 2);
    expect(arrived.length).toBeGreaterThanOrEqual(80 - failed);
  });

  test('many at once, all closed at once', async () => {
    both.startOver();
    const before = both.upstream.requests.length;
    for (let round = 0; round < 5; round++) {
      const underway = [];
      for (let count = 0; count < 20; count++) underway.push(await asking(both));
      for (const { client, request } of underway) {
        await request.reply(answer(200, '{}'));
        await client.response();
      }
      for (const connection of both.upstream.openConnections) connection.close();
    }
    both.startOver(answer(200, '{}'));
    const responses = await Promise.all(Array.from({ length: 20 }, () => ask(both.daemon.port)));
    expect(responses.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect(both.upstream.requests).toHaveLength(before + 120);
  });
});

test('a cancelled request leaves no spare connection behind', async () => {
  const both = await startBoth();
  for (let count = 0; count < 10; count++) {
    const { client, request } = await asking(both);
    client.close();
    expect(await request.connection.closed()).not.toBe('local');
  }
  both.startOver(answer(200, '{}'));
  expect((await ask(both.daemon.port)).status).toBe(200);
  expect(both.upstream.connections.filter(({ requests }) => requests.length === 0)).toHaveLength(0);
});

test('Keep-Alive: timeout of the upstream is obeyed', async () => {
  const both = await startBoth({ upstream: { answer: answer(200, '{}', [['keep-alive', 'timeout=1']]) } });
  expect((await ask(both.daemon.port)).status).toBe(200);
  const { connection } = await both.nextRequest();
  expect(await connection.closed()).not.toBe('local');
});
