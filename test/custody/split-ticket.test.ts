import { describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { duringLoan } from '../support/loan.ts';
import { scanMemory } from '../support/memory.ts';
import { uploadHead } from '../support/proxied.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { contentType, newSessionTicket, startRecordUpstream, type RecordConnection, type RecordUpstream } from '../support/record-upstream.ts';
import { needs } from '../support/skip.ts';

// Between the records of a split ticket, OpenSSL takes no data to send, and node keeps what is written in ordinary memory.
const ticket = newSessionTicket(1000);
const [firstHalf, secondHalf] = [ticket.subarray(0, 512), ticket.subarray(512)];

/** The beginning of an upload in pieces. */
const uploadBegins = (port: number): string => `${uploadHead(port, 'Transfer-Encoding: chunked')}1\r\na\r\n`;

/** A request that the daemon refuses at once: when the answer is here, the daemon has read what was sent to it before. */
async function catchUp(daemon: Daemon): Promise<void> {
  expect((await ask(daemon.port, { target: '/elsewhere', body: '{}' })).status).toBe(403);
}

async function warm(upstream: RecordUpstream): Promise<RecordConnection> {
  const find = (): RecordConnection | undefined => upstream.connections.find(({ isReady, hasEnded }) => isReady && !hasEnded);
  await upstream.until(() => find() !== undefined, 'a warm connection');
  return find() as RecordConnection;
}

async function expectNoCopy(daemon: Daemon): Promise<void> {
  expect((await scanMemory(daemon.pid, daemon.key)).found).toEqual([]);
}

describe('a request waits while half a session ticket has arrived, and leaves no copy of the key', () => {
  test('on a connection that was not used yet', async (context) => {
    needs(context, 'root', 'command cc');
    const upstream = await startRecordUpstream();
    const daemon = await startDaemon({ args: upstream.args });
    const connection = await warm(upstream);
    connection.send(contentType.handshake, firstHalf);
    await catchUp(daemon);
    await expectToWait(upstream, daemon, connection, 1);
  });

  test('on one that was, where it came together with an answer', async (context) => {
    needs(context, 'root', 'command cc');
    const upstream = await startRecordUpstream();
    const daemon = await startDaemon({ args: upstream.args });
    const connection = await warm(upstream);
    connection.behindAnswer = [contentType.handshake, firstHalf];
    expect((await ask(daemon.port, { body: '{}' })).status).toBe(200);
    connection.behindAnswer = undefined;
    await expectToWait(upstream, daemon, connection, 2);
  });

  test('an upload in pieces, whose pieces follow it in order', async () => {
    const upstream = await startRecordUpstream();
    const daemon = await startDaemon({ args: upstream.args });
    const connection = await warm(upstream);
    connection.send(contentType.handshake, firstHalf);
    await catchUp(daemon);
    const client = await connect(daemon.port);
    await client.send(uploadBegins(daemon.port));
    for (const piece of ['2\r\nbc\r\n', '3\r\ndef\r\n', '0\r\n\r\n']) {
      await client.send(piece);
      await catchUp(daemon);
    }
    expect(upstream.requests).toEqual([]);
    connection.send(contentType.handshake, secondHalf);
    expect((await client.response()).status).toBe(200);
    expect(upstream.requests).toEqual([{ authorization: `Bearer ${daemon.key}`, body: 'abcdef' }]);
  });
});

/** `count`: how many requests the upstream has in the end. */
async function expectToWait(upstream: RecordUpstream, daemon: Daemon, connection: RecordConnection, count: number): Promise<void> {
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port, { body: '{}' }));
  await catchUp(daemon);
  await expectNoCopy(daemon);
  expect(upstream.requests).toHaveLength(count - 1);
  connection.send(contentType.handshake, secondHalf);
  expect((await client.response()).status).toBe(200);
  expect(upstream.requests).toEqual(Array(count).fill({ authorization: `Bearer ${daemon.key}`, body: '{}' }));
  expect(upstream.connections.filter(({ received }) => received.length > 0)).toEqual([connection]);
  await expectNoCopy(daemon);
}

test('clients that leave while their requests wait leave no copy of the key, and nothing of theirs is sent', async (context) => {
  needs(context, 'root', 'command cc');
  const upstream = await startRecordUpstream();
  upstream.onReady = (connection) => connection.send(contentType.handshake, firstHalf);
  const daemon = await startDaemon({ args: upstream.args });
  for (const headBytes of [0, 900, 8_000]) {
    await warm(upstream);
    await catchUp(daemon);
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port, { headers: [['x-long', 'x'.repeat(headBytes)]], body: '{}' }));
    await catchUp(daemon);
    const connection = await warm(upstream);
    client.reset();
    await upstream.until(() => connection.hasEnded, 'the end of the connection');
  }
  await expectNoCopy(daemon);
  expect(upstream.requests).toEqual([]);
});

test('a request that waits is not sent once the key is wiped, and leaves no copy', async (context) => {
  needs(context, 'root', 'command cc');
  const { upstream, daemon, connection, client } = await duringLoan(async (args) => {
    const upstream = await startRecordUpstream();
    const daemon = await startDaemon({ args: [...upstream.args, ...args] });
    const connection = await warm(upstream);
    connection.send(contentType.handshake, firstHalf);
    await catchUp(daemon);
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port, { body: '{}' }));
    return { upstream, daemon, connection, client };
  });
  await daemon.waitForStderr(/^responses-api-proxy: the loan is over/m);
  await expectNoCopy(daemon);
  connection.send(contentType.handshake, secondHalf);
  const response = await client.response();
  expect([response.status, envelopeOf(response).code]).toEqual([400, 'loan_expired']);
  expect(upstream.requests).toEqual([]);
  await expectNoCopy(daemon);
});

test('a ticket in two records that have both arrived delays nothing', async () => {
  const upstream = await startRecordUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  const connection = await warm(upstream);
  for (let round = 0; round < 3; round++) {
    connection.send(contentType.handshake, firstHalf);
    connection.send(contentType.handshake, secondHalf);
    await catchUp(daemon);
    expect((await ask(daemon.port, { body: '{}' })).status).toBe(200);
  }
  expect(upstream.connections.filter(({ received }) => received.length > 0)).toEqual([connection]);
});

test('on a kept connection without tickets, each further request leaves in one record', async () => {
  const upstream = await startRecordUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  const connection = await warm(upstream);
  expect((await ask(daemon.port, { body: '{}' })).status).toBe(200);
  const first = connection.received.length;
  for (let round = 0; round < 5; round++) expect((await ask(daemon.port, { body: '{}' })).status).toBe(200);
  expect(connection.received.length).toBe(first + 5);
});
