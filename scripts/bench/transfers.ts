import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as http from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import * as https from 'node:https';

import type { Target } from './peers.ts';

// A body's bytes, as wire.h has them: a prime period, so that no cut at a round number goes unnoticed.
const period = 65_521;
const pattern = Buffer.alloc(period * 16);
for (let at = 0; at < pattern.length; at += 1) {
  const place = at % period;
  pattern[at] = (place * 167 + (place >> 8) * 13) & 0xff;
}
const pieceBytes = period * 8;

/** A body of the pattern, for one that is small. */
export function bodyOf(bytes: number): Buffer {
  return pattern.subarray(0, bytes);
}

/** What the upstream says when a body has come through as it was sent. */
export function answerTo(bodyBytes: number): string {
  return `{"object":"response","received":${bodyBytes},"output":"${'token '.repeat(64)}"}`;
}

/** A client that keeps one connection. */
export class Client {
  readonly #target: Target;
  readonly #agent: http.Agent | https.Agent;

  constructor(target: Target) {
    this.#target = target;
    this.#agent = target.protocol === 'http:'
      ? new http.Agent({ keepAlive: true, maxSockets: 1 })
      : new https.Agent({ keepAlive: true, maxSockets: 1, ca: readFileSync(target.caFile) });
  }

  /** @param wish what the upstream is asked for, see upstream.c */
  open(bodyBytes: number, wish?: string): ClientRequest {
    const { protocol, port, token } = this.#target;
    return (protocol === 'http:' ? http : https).request({
      agent: this.#agent, method: 'POST', host: '127.0.0.1', port, path: '/v1/responses',
      headers: {
        'Content-Type': 'application/json', 'Content-Length': bodyBytes,
        ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
        ...(wish === undefined ? {} : { 'X-Bench': wish }),
      },
    });
  }

  /** Sends a body of the pattern and returns the answer's text, which must come with a 200. */
  async post(bodyBytes: number, wish?: string): Promise<{ text: string; type: string | undefined; wireBytes: number }> {
    const req = this.open(bodyBytes, wish);
    const answered = once(req, 'response') as Promise<[IncomingMessage]>;
    answered.catch(() => {}); // Awaited below, after the body.
    for (let sent = 0; sent < bodyBytes;) {
      const length = Math.min(pieceBytes, bodyBytes - sent);
      const from = sent % period;
      if (!req.write(pattern.subarray(from, from + length)) && !req.destroyed) await Promise.race([once(req, 'drain'), answered]);
      sent += length;
    }
    req.end();
    const [res] = await answered;
    let text = '';
    for await (const piece of res.setEncoding('utf8') as AsyncIterable<string>) text += piece;
    assert.equal(res.statusCode, 200, `status, with ${text.slice(0, 100)}`);
    return { text, type: res.headers['content-type'], wireBytes: headBytes(res) + text.length };
  }

  /** Sends a body to the bench's own upstream, which compares every byte. */
  async upload(bytes: number, bytesPerSecond = 0): Promise<void> {
    const { text } = await this.post(bytes, `receive ${bytesPerSecond}`);
    assert.equal(text, answerTo(bytes), 'the answer to an upload');
  }

  /** Has the upstream send a body, and compares every byte. */
  async download(bytes: number): Promise<void> {
    const req = this.open(0, `send ${bytes}`);
    req.end();
    const [res] = await (once(req, 'response') as Promise<[IncomingMessage]>);
    assert.equal(res.statusCode, 200, 'status');
    let received = 0;
    for await (const piece of res as AsyncIterable<Buffer>) {
      for (let at = 0; at < piece.length; at += pieceBytes) {
        const part = piece.subarray(at, at + pieceBytes);
        const from = (received + at) % period;
        assert.ok(part.equals(pattern.subarray(from, from + part.length)), `an answer changed on its way, after ${received} bytes`);
      }
      received += piece.length;
    }
    assert.equal(received, bytes, 'length of the answer');
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** How long an answer's head was; only right for one that came with a Content-Length, since chunks are not counted. */
function headBytes({ statusMessage = '', rawHeaders }: IncomingMessage): number {
  const fields = rawHeaders.reduce((sum, text) => sum + text.length + 2, 0);
  return `HTTP/1.1 200 ${statusMessage}\r\n`.length + fields + 2;
}
