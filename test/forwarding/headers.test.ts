import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { ask } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: upstream.args });
});

/** Set by the daemon on the way up: Host and Authorization by its rules, Connection because it is hop-by-hop. */
const ours = new Set(['host', 'authorization', 'connection']);

function endToEnd(headers: HeaderLines): HeaderLines {
  return headers.filter(([name]) => !ours.has(name.toLowerCase()));
}

async function seenUpstream(headers: HeaderLines): Promise<HeaderLines> {
  const [response, request] = await Promise.all([ask(daemon.port, { headers }), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  return request.headers;
}

describe('on the way to the upstream', () => {
  test('Host is the upstream\'s, once', async () => {
    const headers = await seenUpstream([]);
    expect(headers.filter(([name]) => name.toLowerCase() === 'host').map(([, value]) => value)).toEqual([`localhost:${upstream.port}`]);
  });

  test('nothing is added to a bare request', async () => {
    const headers = await seenUpstream([]);
    expect(endToEnd(headers).map(([name, value]) => [name.toLowerCase(), value])).toEqual([['content-length', '2']]);
  });

  test('end-to-end headers keep their order, case, values and duplicates', async () => {
    const sent: HeaderLines = [
      ['Content-Type', 'application/json'],
      ['X-Zebra', '1'],
      ['accept', 'text/event-stream'],
      ['x-aPPLE', 'one'],
      ['OpenAI-Organization', 'org-123'],
      ['X-Apple', 'two'],
      ['User-Agent', 'codex_exec/0.1 (Linux; x86_64)'],
      ['x-apple', 'one'],
      ['Cookie', 'a=1; b=2'],
      ['Cookie', 'c=3'],
      ['X-Empty', ''],
      ['X-Spaces', 'a  b\tc'],
      ['X-Latin', 'caf\xe9'],
      ['X-Utf8', 'caf\xc3\xa9'],
      ['x-codex-turn-metadata', '{"a":[1,2,{"b":"c, d; e=\\"f\\""}]}'],
      ['Idempotency-Key', '9f2c'],
      ['Date', 'Tue, 01 Jan 2030 00:00:00 GMT'],
      ['From', 'a@example.com'],
      ['Max-Forwards', '3'],
      ['Via', '1.1 somebody-else'],
      ['X-Forwarded-For', '192.0.2.1'],
      ['Forwarded', 'for=192.0.2.1'],
    ];
    const headers = endToEnd(await seenUpstream(sent)).filter(([name]) => name.toLowerCase() !== 'content-length');
    expect(headers).toEqual(sent);
  });

  test('a long header line passes whole', async () => {
    const value = 'v'.repeat(30_000);
    const headers = await seenUpstream([['X-Long', value]]);
    expect(endToEnd(headers)).toContainEqual(['X-Long', value]);
  });

  test('names that mean something to JavaScript are just names', async () => {
    const sent: HeaderLines = [['__proto__', 'a'], ['constructor', 'b'], ['hasOwnProperty', 'c']];
    expect(endToEnd(await seenUpstream(sent)).filter(([name]) => name.toLowerCase() !== 'content-length')).toEqual(sent);
  });
});

describe('on the way back', () => {
  test('status and end-to-end headers keep their order, case, values and duplicates', async () => {
    const sent: HeaderLines = [
      ['Date', 'Tue, 01 Jan 2030 00:00:00 GMT'],
      ['Content-Type', 'application/json'],
      ['X-Request-Id', 'req_1'],
      ['Set-Cookie', '__cf_bm=1; path=/'],
      ['set-cookie', '_cfuvid=2; path=/'],
      ['x-ratelimit-remaining-requests', '59'],
      ['OpenAI-Processing-MS', '12'],
      ['X-Dup', '1'],
      ['x-dup', '2'],
      ['X-Dup', '1'],
      ['X-Empty', ''],
      ['X-Latin', 'caf\xe9'],
      ['Server', 'cloudflare'],
    ];
    upstream.answerWith(answer(201, '{"a":1}', sent));
    const response = await ask(daemon.port);
    upstream.answerWith(answer(200, '{}'));
    expect(response.status).toBe(201);
    expect(response.text()).toBe('{"a":1}');
    const hopByHop = new Set(['connection', 'keep-alive', 'content-length']);
    expect(response.headers.filter(([name]) => !hopByHop.has(name.toLowerCase()))).toEqual(sent);
    expect(response.values('content-length')).toEqual(['7']);
  });

  test.for([200, 201, 202, 400, 401, 404, 409, 422, 429, 500, 502, 503, 529])('status %i is mirrored with its body', async (status) => {
    upstream.answerWith(answer(status, `{"status":${status}}`, [['retry-after', '3']]));
    const response = await ask(daemon.port);
    upstream.answerWith(answer(200, '{}'));
    expect(response.status).toBe(status);
    expect(response.text()).toBe(`{"status":${status}}`);
    expect(response.values('retry-after')).toEqual(['3']);
  });
});
