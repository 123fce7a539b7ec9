import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { connectionsClosedByPeer, eventually } from '../support/process-facts.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';
import { answer, type UpstreamConnection } from '../support/upstream.ts';

const idleConnections = 8;

const ways: ReadonlyArray<readonly [string, (connection: UpstreamConnection) => void]> = [
  ['FIN', (connection) => connection.close()],
  ['close_notify and FIN', (connection) => connection.halfClose()],
  ['RST', (connection) => connection.reset()],
];

// The daemon is stopped meanwhile, so that it finds the ends and the requests at once, in an order of the kernel's.
describe.for(ways)('connections whose %s is in the kernel a millisecond before the requests', ([way, end]) => {
  test('no request is written to one of them, none is lost and none is sent twice', async () => {
    const both = await withIdleConnections();
    const old = both.upstream.openConnections.filter(({ requests }) => requests.length > 0);
    await whileStopped(both, async (clients) => {
      old.forEach(end);
      await arrived(both, way, old.length);
      await sleep(1);
      for (const client of clients) await client.send(both.rawRequest());
    });
    expect(old.map(({ requests }) => requests.length)).toEqual(old.map(() => 1));
    expect(both.upstream.requests).toHaveLength(2 * idleConnections);
  });

  test('the one that is left is used', async () => {
    const both = await withIdleConnections();
    const [left, ...old] = both.upstream.openConnections.filter(({ requests }) => requests.length > 0);
    await whileStopped(both, async ([client]) => {
      old.forEach(end);
      await arrived(both, way, old.length);
      await client?.send(both.rawRequest());
    }, 1);
    expect(left?.requests).toHaveLength(2);
  });
});

async function withIdleConnections(): Promise<Proxied> {
  const both = await startBoth({ args: ['--keep-warm', '0'] });
  const underway = [];
  for (let count = 0; count < idleConnections; count++) underway.push(await asking(both));
  for (const { client, request } of underway) {
    await request.reply(answer(200, '{}'));
    await client.response();
    client.close();
  }
  both.startOver(answer(200, '{}'));
  return both;
}

/** Stops the daemon, lets clients ask, and expects that all of them are served once it goes on. */
async function whileStopped(both: Proxied, ask: (clients: readonly Awaited<ReturnType<typeof connect>>[]) => Promise<void>, count = idleConnections): Promise<void> {
  const clients = await Promise.all(Array.from({ length: count }, () => connect(both.daemon.port)));
  both.daemon.signal('SIGSTOP');
  await ask(clients);
  both.daemon.signal('SIGCONT');
  for (const client of clients) expect((await client.response()).status).toBe(200);
}

/** A FIN leaves a mark in the kernel's table; a reset takes the connection out of it. */
async function arrived(both: Proxied, way: string, count: number): Promise<void> {
  if (way === 'RST') return;
  await eventually(() => connectionsClosedByPeer(both.upstream.port) === count, () => `${count} FINs in the daemon's kernel`);
}
