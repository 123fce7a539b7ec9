import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { badChunks, badFraming, badHeaders, badRequestLines, cutShort, type Malformed } from '../support/malformed-requests.ts';
import { connect, parseResponses, rawRequest, type RawResponse } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

let upstream: Upstream;
let daemon: Daemon;
/** How many requests were meant to reach the upstream. */
let admitted = 0;

let since: number;

beforeAll(async () => {
  since = performance.now();
  upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
});

const glued = (): Buffer => rawRequest(daemon.port, { headers: [['X-Glued', 'yes']] });
const gluedShutdown = (): Buffer => rawRequest(daemon.port, { method: 'GET', target: '/shutdown' });

/** Sends these bytes on a new connection, waits until the daemon closes it, and returns all responses. */
async function answersTo(raw: Uint8Array, halfCloses = false): Promise<RawResponse[]> {
  const client = await connect(daemon.port);
  await client.send(raw);
  if (halfCloses) client.halfClose();
  expect(await client.waitForClose()).not.toBe('local');
  client.close();
  return parseResponses(client.received, true);
}

/** One refusal that announces and then ends the connection. */
function expectRefusal(answers: RawResponse[], statuses: readonly number[]): void {
  expect(answers).toHaveLength(1);
  for (const refusal of answers) {
    expect(statuses).toContain(refusal.status);
    expect(refusal.interim).toEqual([]);
    envelopeOf(refusal);
    expect(refusal.values('connection')).toEqual(['close']);
  }
}

/** Refused when its head is read: none of it may reach the upstream. */
async function expectRefusedHead([, raw, ...statuses]: Malformed): Promise<void> {
  const before = upstream.receivedBytes;
  const bytes = Buffer.from(raw, 'latin1');
  expectRefusal(await answersTo(bytes, true), statuses);
  expectRefusal(await answersTo(Buffer.concat([bytes, glued()])), statuses);
  expectRefusal(await answersTo(Buffer.concat([bytes, gluedShutdown()])), statuses);
  expect(upstream.receivedBytes).toBe(before);
}

/** Refused when its body is read: it may have begun to go upstream, but never becomes a request there. */
async function expectRefusedBody([, raw, ...statuses]: Malformed): Promise<void> {
  const before = upstream.requests.length;
  const bytes = Buffer.from(raw, 'latin1');
  expectRefusal(await answersTo(Buffer.concat([bytes, glued()])), statuses);
  expectRefusal(await answersTo(Buffer.concat([bytes, gluedShutdown()])), statuses);
  for (const request of upstream.requests.slice(before)) expect(request.isComplete).toBe(false);
}

async function expectRefusedWhenCut([, raw, ...statuses]: Malformed): Promise<void> {
  const before = upstream.requests.length;
  expectRefusal(await answersTo(Buffer.from(raw, 'latin1'), true), statuses);
  for (const request of upstream.requests.slice(before)) expect(request.isComplete).toBe(false);
}

// The requests contain the port, which is not known yet; the test names do not need it.
const positions = (table: (port: number) => Malformed[]): (readonly [name: string, find: () => Malformed])[] =>
  table(0).map(([name], index) => [name, () => table(daemon.port)[index] ?? expect.fail('the table has changed')]);

describe('framing', () => {
  test.for(positions(badFraming))('%s', ([, find]) => expectRefusedHead(find()));
});

describe('header lines', () => {
  test.for(positions(badHeaders))('%s', ([, find]) => expectRefusedHead(find()));
});

describe('request line', () => {
  test.for(positions(badRequestLines))('%s', ([, find]) => expectRefusedHead(find()));
});

describe('chunks', () => {
  test.for(positions(badChunks))('%s', ([, find]) => expectRefusedBody(find()));
});

describe('cut short', () => {
  test.for(positions(cutShort))('%s', ([, find]) => expectRefusedWhenCut(find()));
});

describe('unusual but valid requests are read in one way only', () => {
  const host = (): string => `Host: 127.0.0.1:${daemon.port}`;
  const head = (...lines: string[]): string => `${['POST /v1/responses HTTP/1.1', host(), ...lines].join('\r\n')}\r\n\r\n`;
  const allowed: Record<string, () => string> = {
    'an empty line before the request': () => `\r\n${head('Content-Length: 5')}hello`,
    'spaces around a length': () => `${head('Content-Length:   5   ')}hello`,
    'a length without a space before it': () => `${head('Content-Length:5')}hello`,
    'a length with zeros before it': () => `${head('Content-Length: 0005')}hello`,
    'a coding in mixed case': () => `${head('transfer-ENCODING: Chunked')}5\r\nhello\r\n0\r\n\r\n`,
    'spaces around a coding': () => `${head('Transfer-Encoding:   chunked   ')}5\r\nhello\r\n0\r\n\r\n`,
    'chunk sizes with zeros before them': () => `${head('Transfer-Encoding: chunked')}0005\r\nhello\r\n000\r\n\r\n`,
    'a hexadecimal chunk size in both cases': () => `${head('Transfer-Encoding: chunked')}5\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\n`,
    'a chunk extension': () => `${head('Transfer-Encoding: chunked')}5;a=b;c="d e";f\r\nhello\r\n0;g\r\n\r\n`,
    'trailers, one of them called like a framing header': () => `${head('Transfer-Encoding: chunked')}5\r\nhello\r\n0\r\nX: y\r\nX-Length: 10\r\n\r\n`,
    'a request in the body': () => `${head(`Content-Length: ${glued().length}`)}${glued().toString('latin1')}`,
    'a length that Connection names': () => `${head('Connection: content-length', 'Content-Length: 5')}hello`,
    'two spaces in the request line': () => head('Content-Length: 5').replaceAll(' ', '  ').replaceAll(':  ', ': ') + 'hello',
  };
  test.for(Object.entries(allowed))('%s', async ([, raw]) => {
    const before = upstream.requests.length;
    const client = await connect(daemon.port);
    for (const request of [Buffer.from(raw(), 'latin1'), glued()]) {
      await client.send(request);
      expect((await client.response()).status).toBe(200);
    }
    admitted += 2;
    // Requests that earlier tests cancelled may still arrive, but never complete.
    const [first, second, ...more] = upstream.requests.slice(before).filter(({ isComplete }) => isComplete);
    expect(more).toEqual([]);
    expect(first?.values('x-glued')).toEqual([]);
    expect(first?.body.toString('latin1')).toMatch(/^hello$|^hello0123456789$|X-Glued/);
    expect([...(first?.values('content-length') ?? []), ...(first?.values('transfer-encoding') ?? [])]).toHaveLength(1);
    expect(second?.values('x-glued')).toEqual(['yes']);
  });
});

describe('a good request before a malformed one', () => {
  test.for(['Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello', 'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n', 'X : y\r\n\r\n'])('%j', async (lines) => {
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port, { headers: [['X-First', 'yes']] }));
    expect((await client.response()).status).toBe(200);
    admitted++;
    await client.send(Buffer.concat([Buffer.from(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\n${lines}`), glued()]));
    expect((await client.response()).status).toBe(400);
    expect(await client.waitForClose()).not.toBe('local');
    expect(parseResponses(client.received, true)).toHaveLength(2);
  });
});

afterAll(async () => {
  // What was still on its way has arrived once the daemon has ended.
  expect(daemon.exit).toBeUndefined();
  const exit = await daemon.stop();
  expect(exit.code).toBe(0);
  expect(upstream.requests.filter(({ isComplete }) => isComplete)).toHaveLength(admitted);
  expect(upstream.requests.filter((request) => request.values('x-glued').length > 0)).toHaveLength(admittedGlued());
  // About a thousand refusals: a burst of each kind, and one line a second.
  const lines = exit.stderr.split('\n').filter((line) => line.includes('refused'));
  expect(lines.length).toBeLessThan(400 + (performance.now() - since) / 1_000);
});

/** Every second of those was a glued one, except in the last table. */
function admittedGlued(): number {
  return Math.floor((admitted - 3) / 2);
}
