import { expect } from 'vitest';
import { startDaemon } from './daemon.ts';
import { chunked } from './http-bytes.ts';
import type { Random } from './random.ts';
import { ask, connect, rawRequest } from './raw-client.ts';
import { admissible } from './strict-http.ts';
import { answer, startUpstream, type UpstreamRequest } from './upstream.ts';

/** What makes trouble in a head or between chunks. */
const troublemakers = [
  '\r', '\n', '\r\n', '\n\n', '\r\n\r\n', '\0', ' ', '\t', '\v', '\f', ':', ';', ',', '"', '\\', '/', '?', '#', '%', '*', '\x7f', '\x80', '\xa0', '\xff', '0', '5', '-', '+', '0x', 'f',
  'Content-Length: 5\r\n', 'Content-Length: 0\r\n', 'content-length:5\r\n', 'Content-Length: 5, 5\r\n', 'Content-Length : 5\r\n', 'Content-Length\0: 5\r\n', ' Content-Length: 5\r\n', 'X-Content-Length: 5\r\n',
  'Transfer-Encoding: chunked\r\n', 'transfer-encoding:chunked\r\n', 'Transfer-Encoding: gzip, chunked\r\n', 'Transfer-Encoding: identity\r\n', 'Transfer-Encoding: x\r\n', 'Transfer-Encoding : chunked\r\n',
  'Transfer-Encoding:\r\n chunked\r\n', 'Transfer-Encoding\t: chunked\r\n',
  'Host: evil.example\r\n', 'host: localhost\r\n', 'Origin: null\r\n', 'Origin:\r\n', 'Sec-Fetch-Site: none\r\n', 'Expect: 100-continue\r\n', 'Expect: x\r\n', 'Expect:\r\n', 'Connection: close\r\n', 'Connection: keep-alive\r\n',
  'Connection: host, content-length, transfer-encoding\r\n', 'Connection: Upgrade\r\nUpgrade: h2c\r\n', 'Upgrade: websocket\r\n', 'Trailer: Host\r\n', 'Proxy-Connection: keep-alive\r\n', 'Authorization: Bearer x\r\n',
  '0\r\n\r\n', '5\r\nhello\r\n', '1\r\n', '0\r\nX: y\r\n\r\n', ';a=b', ' HTTP/1.1', ' HTTP/1.0', 'HTTP/2.0', 'GET ', 'POST ', 'CONNECT ', 'GET / HTTP/1.1\r\n', '/v1/responses', '/shutdown', 'x'.repeat(300),
] as const;

function seeds(port: number): Buffer[] {
  const hello = Buffer.from('hello');
  const chunkedRequest = (headers: readonly (readonly [string, string])[], body: Buffer): Buffer => Buffer.concat([rawRequest(port, { headers: [...headers, ['Transfer-Encoding', 'chunked']], body: undefined }), body]);
  return [
    rawRequest(port),
    rawRequest(port, { body: '' }),
    rawRequest(port, { host: `localhost:${port}`, headers: [['Accept', 'text/event-stream'], ['User-Agent', 'x'], ['X-A', 'b'], ['X-A', 'c']], body: hello }),
    rawRequest(port, { version: 'HTTP/1.0', body: hello }),
    rawRequest(port, { version: 'HTTP/1.0', headers: [['Connection', 'keep-alive']], body: hello }),
    rawRequest(port, { headers: [['Connection', 'close']], body: hello }),
    rawRequest(port, { headers: [['Expect', '100-continue']], body: hello }),
    rawRequest(port, { headers: [['Connection', 'Upgrade'], ['Upgrade', 'h2c']], body: hello }),
    chunkedRequest([], chunked('hello', 'world')),
    chunkedRequest([['Trailer', 'X']], Buffer.from('5;a="b"\r\nhello\r\n00\r\nX: y\r\n\r\n')),
    chunkedRequest([], chunked()),
    rawRequest(port, { body: rawRequest(port, { headers: [['X-Inner', 'yes']] }) }),
    chunkedRequest([], chunked(rawRequest(port, { headers: [['X-Inner', 'yes']] }))),
    rawRequest(port, { method: 'GET' }),
    rawRequest(port, { method: 'GET', target: '/shutdown' }),
    rawRequest(port, { method: 'HEAD' }),
    rawRequest(port, { method: 'OPTIONS', target: '*' }),
    rawRequest(port, { target: '/v1/models', body: hello }),
    rawRequest(port, { headers: [['Origin', 'null']], body: hello }),
  ];
}

/** A pipeline of one to three requests, changed in up to six places. */
export function mutant(random: Random, port: number): Buffer {
  const from = seeds(port);
  let bytes: Buffer = Buffer.concat(Array.from({ length: random.whole(1, 3) }, () => random.pick(from)));
  for (let changes = random.whole(0, 6); changes > 0; changes--) bytes = mutate(bytes, random, from);
  return bytes;
}

function mutate(bytes: Buffer, random: Random, from: readonly Buffer[]): Buffer {
  const at = random.whole(0, bytes.length);
  const length = Math.min(random.chance(0.7) ? random.whole(1, 4) : random.whole(1, 100), bytes.length - at);
  const replaced = (by: Buffer | string, removed = 0): Buffer => Buffer.concat([bytes.subarray(0, at), typeof by === 'string' ? Buffer.from(by, 'latin1') : by, bytes.subarray(at + removed)]);
  // At the beginning of a line, where a header fits.
  const lineStart = bytes.indexOf('\r\n', at, 'latin1') + 2;
  switch (random.whole(0, 8)) {
    case 0: return replaced(random.bytes(1), 1);
    case 1: return replaced('', length);
    case 2: return replaced(random.pick(troublemakers));
    case 3: return replaced(random.pick(troublemakers), length);
    case 4: return replaced(Buffer.concat([bytes.subarray(at, at + length), bytes.subarray(at, at + length)]), length);
    case 5: return bytes.subarray(0, at);
    case 6: return replaced(random.pick(from), length);
    default: return Buffer.concat([bytes.subarray(0, lineStart), Buffer.from(random.pick(troublemakers), 'latin1'), bytes.subarray(lineStart)]);
  }
}

/** How many mutants did what. */
export interface Fuzzed {
  sent: number;
  /** Requests that went upstream, whole or in part. */
  forwarded: number;
  bytes: number;
}

/**
 * Sends up to `count` mutants to a daemon, for `milliseconds` at most, each on a connection of its own that is then half-closed, and checks
 * what arrives upstream against the second opinion, and that a good request is still served.
 */
export async function fuzz(random: Random, count: number, milliseconds = Number.POSITIVE_INFINITY): Promise<Fuzzed> {
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  const fuzzed: Fuzzed = { sent: 0, forwarded: 0, bytes: 0 };
  const deadline = performance.now() + milliseconds;
  while (fuzzed.sent < count && performance.now() < deadline) {
    const bytes = mutant(random, daemon.port);
    const before = upstream.requests.length;
    const client = await connect(daemon.port);
    for (const piece of random.chance(0.5) ? [bytes] : random.split(bytes, 5)) await client.send(piece);
    // A client that ends the connection cancels what has no response yet. So wait for the responses that are due, and if none is, now and then for one that should not come.
    const allowed = admissible(bytes, daemon.port);
    const due = allowed.filter(({ isComplete }) => isComplete).length;
    const isAnswered = (): boolean => client.ending !== undefined || (due > 0 && client.text.split('HTTP/1.1 200').length > due);
    if (due > 0 || random.chance(0.2)) await client.until(isAnswered, 'the answers', due > 0 ? 50 : 10).catch(() => {});
    client.halfClose();
    await client.waitForClose();
    client.close();
    fuzzed.sent++;
    fuzzed.bytes += bytes.length;
    const sent = JSON.stringify(bytes.toString('latin1'));
    if (daemon.exit !== undefined) expect.fail(`the daemon has ended after ${sent}`);
    // Once a good request behind it is served, all that the mutant sent upstream has arrived.
    const probe = `probe ${fuzzed.sent}`;
    expect((await ask(daemon.port, { body: probe })).status, sent).toBe(200);
    const arrived = upstream.requests.slice(before).filter((request) => request.body.toString() !== probe);
    let next = 0;
    for (const request of arrived) {
      checkHead(request, daemon.key, sent);
      while (next < allowed.length && !isOf(request, allowed[next])) next++;
      if (next++ >= allowed.length) expect.fail(`${JSON.stringify(request.rawHead)} and ${JSON.stringify(request.body.toString('latin1'))} went upstream of ${sent}`);
    }
    fuzzed.forwarded += arrived.length;
  }
  const { code, stderr } = await daemon.stop();
  expect(code).toBe(0);
  expect(stderr).not.toContain('internal error');
  return fuzzed;
}

function isOf(request: UpstreamRequest, allowed: ReturnType<typeof admissible>[number] | undefined): boolean {
  if (allowed === undefined) return false;
  if (request.isComplete) return allowed.isComplete && request.body.equals(allowed.body);
  return allowed.body.subarray(0, request.bodyLength).equals(request.body);
}

/** One request, and nothing that another reader could take for more. */
function checkHead(request: UpstreamRequest, key: string, sent: string): void {
  const [line, ...headers] = request.rawHead.slice(0, -4).split('\r\n');
  expect(line, sent).toBe('POST /v1/responses HTTP/1.1');
  for (const header of headers) expect(header, sent).toMatch(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[\t\x20-\x7e\x80-\xff]*$/);
  expect(request.values('authorization'), sent).toEqual([`Bearer ${key}`]);
  expect(request.values('host'), sent).toHaveLength(1);
  expect(request.values('content-length').length + request.values('transfer-encoding').length, sent).toBeLessThanOrEqual(1);
  for (const name of ['origin', 'sec-fetch-site', 'expect', 'upgrade']) expect(request.values(name), sent).toEqual([]);
}
