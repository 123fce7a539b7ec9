import { expect } from 'vitest';
import { chunk, type HeaderLines } from './http-bytes.ts';
import type { Proxied } from './proxied.ts';
import type { Random } from './random.ts';
import { connect, type RawClient } from './raw-client.ts';

const nameAlphabet = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&\'*+-.^_`|~';

/** VCHAR, space, tab and obs-text (RFC 9110 section 5.5). */
const valueAlphabet = `${Array.from({ length: 94 }, (_, at) => String.fromCharCode(0x21 + at)).join('')} \t${Array.from({ length: 128 }, (_, at) => String.fromCharCode(0x80 + at)).join('')}`;

const mostBody = 200_000;

/** End-to-end headers with random case, order, duplicates and bytes. */
function headersOf(random: Random, kind: string): HeaderLines {
  const names = Array.from({ length: random.whole(1, 6) }, () => `${kind}-${random.text(random.whole(1, 12), nameAlphabet)}`);
  return Array.from({ length: random.whole(0, 20) }, (): [string, string] => [random.pick(names), random.text(random.chance(0.05) ? random.whole(1_000, 3_000) : random.whole(0, 30), valueAlphabet).trim()]);
}

function bytesOf(lines: HeaderLines): string {
  return lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
}

/** A body as its pieces go out: as they are, or each as a chunk of the chunked coding, and however the segments fall. */
function framed(random: Random, body: Buffer, isChunked: boolean): Buffer[] {
  const pieces = random.split(body, 12);
  const wire = isChunked ? Buffer.concat([...pieces.map(chunk), Buffer.from('0\r\n\r\n')]) : Buffer.concat(pieces);
  return random.split(wire, 12);
}

const withPrefix = (headers: HeaderLines, kind: string): HeaderLines => headers.filter(([name]) => name.startsWith(`${kind}-`));

/** One random exchange; what arrives on either side must be what was sent on the other, byte for byte. */
export async function roundTrip(both: Proxied, random: Random, client?: RawClient): Promise<void> {
  both.startOver();
  const connection = client ?? (await connect(both.daemon.port));
  const [up, down] = [random.bytes(random.size(mostBody)), random.bytes(random.size(mostBody))];
  const [upHeaders, downHeaders] = [headersOf(random, 'u'), headersOf(random, 'd')];
  const [upChunked, downChunked] = [random.chance(0.5), random.chance(0.5)];

  const framing = upChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${up.length}`;
  const head = both.uploadHead(`${bytesOf(upHeaders)}${framing}`);
  const upWire = [Buffer.from(head, 'latin1'), ...framed(random, up, upChunked)];
  for (const piece of random.chance(0.5) ? [Buffer.concat(upWire)] : upWire) {
    void connection.send(piece);
    if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
  }
  const request = await (await both.nextRequest()).complete();
  expect(request.body.equals(up)).toBe(true);
  expect(withPrefix(request.headers, 'u')).toEqual(upHeaders);
  if (!upChunked) expect(request.values('content-length')).toEqual([String(up.length)]);
  else if (up.length > 0) expect(request.values('transfer-encoding')).toEqual(['chunked']);

  const status = random.pick([200, 200, 200, 201, 400, 404, 429, 500, 503]);
  const downHead = `HTTP/1.1 ${status} Some Reason\r\n${bytesOf(downHeaders)}${downChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${down.length}`}\r\n\r\n`;
  const downWire = [Buffer.from(downHead, 'latin1'), ...framed(random, down, downChunked)];
  for (const piece of random.chance(0.5) ? [Buffer.concat(downWire)] : downWire) {
    void request.reply(piece);
    if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
  }
  const response = await connection.response();
  expect(response.complete).toBe(true);
  expect(response.status).toBe(status);
  expect(response.body.equals(down)).toBe(true);
  expect(withPrefix(response.headers, 'd')).toEqual(downHeaders);
  if (downChunked) expect(response.values('transfer-encoding')).toEqual(['chunked']);
  else expect(response.values('content-length')).toEqual([String(down.length)]);
  if (client === undefined) connection.close();
}
