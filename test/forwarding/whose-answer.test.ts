import { describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { establishedConnections, eventually, mebibyte } from '../support/process-facts.ts';
import { startBoth, type Proxied } from '../support/proxied.ts';
import { ask, connect, rawRequest, type RawClient, type RawResponse } from '../support/raw-client.ts';
import { contentType, newSessionTicket, startRecordUpstream, type RecordConnection } from '../support/record-upstream.ts';
import { answer, type UpstreamConnection, type UpstreamRequest } from '../support/upstream.ts';

/** More than the kernels of both ends hold while nothing is read. */
const largeBytes = 12 * mebibyte;

/** A policy has the daemon gather a body, and write it in one piece. */
const gathering = (): readonly string[] => policyArgs({ models: ['m-*'], max_body_bytes: 2 * largeBytes });

const bodyOf = (name: string, input = ''): string => JSON.stringify({ model: `m-${name}`, input });
const nameIn = (body: string): string => /^\{"model":"m-(\w+)"/.exec(body)?.[1] ?? `not a name: ${body.slice(0, 40)}`;

/** Answers each request by its name, and not again one that was answered early. */
function echo({ body }: UpstreamRequest): Buffer | undefined {
  const name = nameIn(body.toString('latin1'));
  return name === 'large' ? undefined : answer(200, bodyOf(name));
}

/** An answer that no request was sent for. */
const surplus = answer(408, bodyOf('nobody'));

const requestOf = (daemon: Daemon, name: string, input?: string): Buffer =>
  rawRequest(daemon.port, { headers: [['Content-Type', 'application/json']], body: bodyOf(name, input) });

/** A request that the daemon refuses at once: when the answer is here, the daemon has read what was sent to it before. */
async function catchUp({ port }: Daemon): Promise<void> {
  expect((await ask(port, { target: '/elsewhere', body: '{}' })).status).toBe(403);
}

async function send(daemon: Daemon, name: string): Promise<RawClient> {
  const client = await connect(daemon.port);
  await client.send(requestOf(daemon, name));
  await catchUp(daemon);
  return client;
}

/** Whose answer it is; `own` also where there is none, and the client is told so. */
function whose(own: string, response: RawResponse): string {
  if (response.status !== 502) return nameIn(response.text());
  expect(envelopeOf(response).code).toBe('upstream_unreachable');
  return own;
}

/** A connection whose upstream has answered a large request early, and does not read the rest of it: much of it is still in the daemon. */
async function withUnreadRequest(both: Proxied): Promise<UpstreamConnection> {
  const client = await connect(both.daemon.port);
  void client.send(requestOf(both.daemon, 'large', 'x'.repeat(largeBytes)));
  const { connection } = await both.nextRequest();
  connection.pause();
  await connection.send(answer(429, bodyOf('large')));
  expect(whose('large', await client.response())).toBe('large');
  client.close();
  await catchUp(both.daemon);
  both.upstream.answerWith(echo);
  return connection;
}

/** How much of what the upstream sent the daemon has not read; undefined once either has ended the connection. */
function unreadBytes({ upstream }: Proxied, { tcp }: UpstreamConnection): number | undefined {
  return establishedConnections().find(({ local, remote }) => local === tcp.remotePort && remote === upstream.port)?.unread;
}

/** Whether the daemon reads no more of what the upstream sends, or has ended the connection. */
async function isLeftUnread(both: Proxied, connection: UpstreamConnection): Promise<boolean> {
  const before = unreadBytes(both, connection);
  await catchUp(both.daemon);
  return before !== 0 && unreadBytes(both, connection) === before;
}

/** Whatever went up has the key in it, and nothing went up twice. */
function expectKeys({ upstream, daemon }: Proxied, names: readonly string[]): void {
  expect(upstream.requests.map((request) => request.values('authorization'))).toEqual(upstream.requests.map(() => [`Bearer ${daemon.key}`]));
  const went = upstream.requests.map(({ body }) => nameIn(body.toString('latin1')));
  expect(went.filter((name) => names.includes(name)).sort()).toEqual([...names].sort());
}

describe.for([['in the clear', false], ['over TLS', 'good']] as const)('%s, behind a request that is answered and not read', ([, tls]) => {
  const start = (): Promise<Proxied> => startBoth({ upstream: { tls, keepBytes: 2 * largeBytes }, args: [...gathering()] });

  test('each client gets its own answer, though the upstream answers once too often', async () => {
    const both = await start();
    const unread = await withUnreadRequest(both);
    const second = await send(both.daemon, 'second');
    await unread.send(surplus);
    await catchUp(both.daemon);
    const third = await send(both.daemon, 'third');
    unread.resume();
    expect([whose('second', await second.response()), whose('third', await third.response())]).toEqual(['second', 'third']);
    expectKeys(both, ['second', 'third']);
  });

  test('the daemon goes on, though the upstream ends an answer that its client does not read', async () => {
    const both = await start();
    const unread = await withUnreadRequest(both);
    const second = await send(both.daemon, 'second');
    second.pause();
    await unread.send(`HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n${bodyOf('nobody')}${' '.repeat(mebibyte)}`);
    await catchUp(both.daemon);
    while (!(await isLeftUnread(both, unread))) await unread.send(Buffer.alloc(64 * 1024));
    unread.halfClose();
    await eventually(() => unreadBytes(both, unread) === undefined, () => 'the FIN in the kernel of the daemon');
    unread.resume();
    await unread.closed();
    expect(whose('third', await ask(both.daemon.port, { headers: [['Content-Type', 'application/json']], body: bodyOf('third') }))).toBe('third');
    second.resume();
    expect(whose('second', await second.response())).toBe('second');
    expectKeys(both, ['second', 'third']);
  });
});

const ticket = newSessionTicket(1000);
const [firstHalf, secondHalf] = [ticket.subarray(0, 512), ticket.subarray(512)];

describe('between the halves of a session ticket', () => {
  /** A connection that has served a request and got half a ticket behind the answer. */
  const start = async () => {
    const upstream = await startRecordUpstream();
    upstream.answerTo = (body) => bodyOf(nameIn(body));
    const daemon = await startDaemon({ args: [...upstream.args] });
    expect((await ask(daemon.port, { body: bodyOf('first') })).status).toBe(200);
    const [connection] = upstream.connections as [RecordConnection];
    connection.send(contentType.handshake, firstHalf);
    await catchUp(daemon);
    return { upstream, daemon, connection };
  };

  test('each client gets its own answer, though the upstream answers once too often', async () => {
    const { upstream, daemon, connection } = await start();
    const second = await send(daemon, 'second');
    connection.sendTogether([[contentType.handshake, secondHalf], [contentType.applicationData, surplus], [contentType.handshake, firstHalf]]);
    await catchUp(daemon);
    const third = await send(daemon, 'third');
    connection.send(contentType.handshake, secondHalf);
    expect([whose('second', await second.response()), whose('third', await third.response())]).toEqual(['second', 'third']);
    expect(upstream.requests.map(({ authorization }) => authorization)).toEqual(upstream.requests.map(() => `Bearer ${daemon.key}`));
  });
});
