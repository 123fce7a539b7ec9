import { describe, expect, test } from 'vitest';
import { connectionsClosedByPeer, eventually } from '../support/process-facts.ts';
import { statusOf } from '../support/process.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { type RawClient, connect, rawRequest } from '../support/raw-client.ts';
import { answer, type UpstreamConnection } from '../support/upstream.ts';

const idleConnections = 8;

const ways: ReadonlyArray<readonly [string, (connection: UpstreamConnection) => void]> = [
  ['FIN', (connection) => connection.close()],
  ['close_notify and FIN', (connection) => connection.halfClose()],
  ['RST', (connection) => connection.reset()],
];

// The daemon is stopped meanwhile, so that it finds the ends and the requests in one turn, in the order in which they came.
describe.for(ways.flatMap(([way, end]) => (['before', 'behind'] as const).map((order) => [way, order, end] as const)))('connections whose %s is in the kernel %s the requests', ([way, order, end]) => {
  const inOrder = async (both: Proxied, old: readonly UpstreamConnection[], clients: readonly RawClient[]): Promise<void> => {
    const steps = [
      async () => {
        old.forEach(end);
        await arrived(both, way, old.length);
      },
      async () => {
        for (const client of clients) await client.send(both.rawRequest());
      },
    ];
    for (const step of order === 'before' ? steps : steps.reverse()) await step();
  };

  test('no request is written to one of them, none is lost and none is sent twice', async () => {
    const both = await withIdleConnections();
    const old = both.upstream.openConnections.filter(({ requests }) => requests.length > 0);
    await whileStopped(both, (clients) => inOrder(both, old, clients));
    expect(old.map(({ requests }) => requests.length)).toEqual(old.map(() => 1));
    expect(both.upstream.requests).toHaveLength(2 * idleConnections);
  });

  test('the one that is left is used', async () => {
    const both = await withIdleConnections();
    const [left] = both.upstream.openConnections.filter(({ requests }) => requests.length > 0);
    const old = both.upstream.openConnections.filter((connection) => connection !== left);
    await whileStopped(both, (clients) => inOrder(both, old, clients), 1);
    expect(left?.requests).toHaveLength(2);
  });
});

async function withIdleConnections(): Promise<Proxied> {
  const both = await startBoth();
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
async function whileStopped(both: Proxied, ask: (clients: readonly RawClient[]) => Promise<void>, count = idleConnections): Promise<void> {
  const clients = await Promise.all(Array.from({ length: count }, () => accepted(both.daemon.port)));
  both.daemon.signal('SIGSTOP');
  await eventually(() => statusOf(both.daemon.pid, 'State').startsWith('T'), () => 'the daemon to be stopped');
  await ask(clients);
  both.daemon.signal('SIGCONT');
  for (const client of clients) expect((await client.response()).status).toBe(200);
}

/** A connection that the daemon has accepted. It would find a request on another one only after the ends. */
async function accepted(port: number): Promise<RawClient> {
  const client = await connect(port);
  await client.send(rawRequest(port, { method: 'GET' }));
  expect((await client.response()).status).toBe(403);
  return client;
}

/** A FIN leaves a mark in the kernel's table; a reset takes the connection out of it. */
async function arrived(both: Proxied, way: string, count: number): Promise<void> {
  if (way === 'RST') return;
  await eventually(() => connectionsClosedByPeer(both.upstream.port) === count, () => `${count} FINs in the daemon's kernel`);
}
