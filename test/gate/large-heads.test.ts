import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { ask, connect, exchange, parseResponses, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

const maxHeadBytes = 64 * 1024;
const maxLines = 256;

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
});

/** A good request whose head has exactly `size` bytes, in header lines of at most `lineBytes`. */
function withHeadOf(size: number, lineBytes = size): Buffer {
  const least = rawRequest(daemon.port, { body: '' });
  const headers: [string, string][] = [];
  let left = size - least.length;
  while (left > 0) {
    // A rest too short for a header line is added to the line before.
    const bytes = left < lineBytes + 10 ? left : lineBytes;
    headers.push(['X', 'y'.repeat(bytes - 'X: \r\n'.length)]);
    left -= bytes;
  }
  const raw = rawRequest(daemon.port, { headers, body: '' });
  expect(raw).toHaveLength(size);
  return raw;
}

const lines = (count: number): HeaderLines => Array.from({ length: count }, (_, index): [string, string] => [`X-${index}`, 'y']);

describe('a head of 64 KiB', () => {
  test.for([['in one line', maxHeadBytes], ['in lines of 8 KiB', 8 * 1024], ['in 200 lines', 330]])('passes %s', async ([, lineBytes]) => {
    const before = upstream.requests.length;
    const response = await exchange(daemon.port, withHeadOf(maxHeadBytes, Number(lineBytes)));
    expect(response.status).toBe(200);
    const sent = upstream.requests[before]?.values('x').join('').length;
    expect(sent).toBeGreaterThan(maxHeadBytes - 2_000);
  });

  test.for([['a byte', 1], ['a kilobyte', 1024], ['64 KiB', maxHeadBytes], ['a megabyte', 1024 * 1024]])('and %s more is refused', async ([, more]) => {
    const before = upstream.receivedBytes;
    const client = await connect(daemon.port);
    await client.send(Buffer.concat([withHeadOf(maxHeadBytes + Number(more)), rawRequest(daemon.port)]));
    const response = await client.response();
    expect(response.status).toBe(431);
    expect(envelopeOf(response).code).toBe('too_many_headers');
    expect(await client.waitForClose()).not.toBe('local');
    expect(parseResponses(client.received, true)).toHaveLength(1);
    expect(upstream.receivedBytes).toBe(before);
  });
});

describe('a head of 256 lines', () => {
  test('passes, and all of them arrive', async () => {
    const before = upstream.requests.length;
    // Host and Content-Length are the other two.
    expect((await ask(daemon.port, { headers: lines(maxLines - 2) })).status).toBe(200);
    expect(upstream.requests[before]?.headers.filter(([name]) => name.startsWith('X-'))).toHaveLength(maxLines - 2);
  });

  test.for([1, 2, 100, 1_000, 7_000])('and %i more is refused', async (more) => {
    const before = upstream.receivedBytes;
    const client = await connect(daemon.port);
    await client.send(Buffer.concat([rawRequest(daemon.port, { headers: lines(maxLines - 2 + more) }), rawRequest(daemon.port)]));
    const response = await client.response();
    expect(response.status).toBe(431);
    expect(envelopeOf(response).code).toBe('too_many_headers');
    expect(await client.waitForClose()).not.toBe('local');
    expect(parseResponses(client.received, true)).toHaveLength(1);
    expect(upstream.receivedBytes).toBe(before);
  });

  test('one that decides is not overlooked because it is the last', async () => {
    for (const last of [['Origin', 'null'], ['Host', 'evil.example'], ['Sec-Fetch-Site', 'none']] as const) {
      expect((await ask(daemon.port, { headers: [...lines(maxLines - 3), last] })).status, last[0]).toBe(403);
    }
    expect((await ask(daemon.port, { headers: [...lines(maxLines - 2), ['Transfer-Encoding', 'chunked']] })).status).toBe(400);
  });
});
