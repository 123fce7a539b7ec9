import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { judged, judgedPort } from '../support/judged.ts';
import { ask, type RawResponse } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
});

function expectNoCors(response: RawResponse): void {
  expect(response.rawHead.toLowerCase()).not.toMatch(/access-control|cross-origin|timing-allow/);
}

const ofBrowsers: Record<string, HeaderLines> = {
  'an Origin': [['Origin', 'https://evil.example']],
  'an Origin of ours': [['Origin', 'http://127.0.0.1:PORT']],
  'an Origin of ours by name': [['Origin', 'http://localhost:PORT']],
  'an opaque Origin': [['Origin', 'null']],
  'an empty Origin': [['Origin', '']],
  'an Origin of an extension': [['Origin', 'chrome-extension://abcdefghijklmnop']],
  'an Origin of a file': [['Origin', 'file://']],
  'an oddly cased Origin': [['oRIGIN', 'https://evil.example']],
  'two Origins': [['Origin', 'http://127.0.0.1:PORT'], ['Origin', 'https://evil.example']],
  'an Origin behind many headers': [...Array.from({ length: 200 }, (_, index): [string, string] => [`X-${index}`, 'y']), ['Origin', 'null']],
  'an Origin that Connection names': [['Connection', 'origin'], ['Origin', 'https://evil.example']],
  ...Object.fromEntries(['cross-site', 'same-site', 'same-origin', 'none', '', 'x', 'CROSS-SITE'].map((site): [string, HeaderLines] => [`Sec-Fetch-Site: ${site}`, [['Sec-Fetch-Site', site]]])),
  'Sec-Fetch-Site in lower case': [['sec-fetch-site', 'same-origin']],
  'Sec-Fetch-Site beside sec-fetch-mode': [['sec-fetch-mode', 'cors'], ['sec-fetch-site', 'same-origin']],
};

describe('browsers are refused', () => {
  const requests = [{}, { method: 'GET', target: '/shutdown' }, { method: 'OPTIONS' }] as const;

  test.for(Object.entries(ofBrowsers))('%s', ([, lines]) => {
    const headers = lines.map(([name, value]): [string, string] => [name, value.replace('PORT', String(judgedPort))]);
    for (const request of requests) expect(judged({ ...request, headers })).toBe('403 browser_not_allowed');
  });

  test('and learn nothing, nor does anything of theirs go up', async () => {
    const before = upstream.receivedBytes;
    for (const request of requests) {
      const response = await ask(daemon.port, { ...request, headers: [['Origin', `http://127.0.0.1:${daemon.port}`]] });
      expect(response.status).toBe(403);
      expect(envelopeOf(response).code).toBe('browser_not_allowed');
      expectNoCors(response);
    }
    expect(upstream.receivedBytes).toBe(before);
    expect(daemon.exit).toBe(undefined);
  });
});

test('a preflight is refused and learns nothing', async () => {
  const preflights: HeaderLines[] = [
    [['Origin', 'https://evil.example'], ['Access-Control-Request-Method', 'POST'], ['Access-Control-Request-Headers', 'content-type,authorization']],
    [['Origin', 'https://evil.example'], ['Access-Control-Request-Method', 'POST'], ['Access-Control-Request-Private-Network', 'true'], ['Sec-Fetch-Mode', 'cors'], ['Sec-Fetch-Site', 'cross-site']],
    [['Access-Control-Request-Method', 'POST']],
  ];
  for (const headers of preflights) {
    for (const target of ['/v1/responses', '/shutdown', '*', '/']) {
      const response = await ask(daemon.port, { method: 'OPTIONS', target, headers });
      expect(response.status).toBe(403);
      expect(response.values('allow')).toEqual([]);
      expectNoCors(response);
    }
  }
});

describe('other clients pass', () => {
  test('sec-fetch-mode alone, as Node\'s fetch sends it', async () => {
    expect((await ask(daemon.port, { headers: [['sec-fetch-mode', 'cors']] })).status).toBe(200);
  });

  test('fetch of this Node', async () => {
    const before = upstream.requests.length;
    const response = await fetch(daemon.url, { method: 'POST', body: '{"model":"gpt"}', headers: { 'content-type': 'application/json' } });
    expect([response.status, await response.text()]).toEqual([200, '{}']);
    expect(upstream.requests[before]?.body.toString()).toBe('{"model":"gpt"}');
    expect((await fetch(`http://localhost:${daemon.port}/v1/responses`, { method: 'POST', body: '{}' })).status).toBe(200);
  });

  test('a User-Agent and names that are only similar do not make a browser', async () => {
    expect((await ask(daemon.port, { headers: [['User-Agent', 'Mozilla/5.0'], ['X-Origin', 'a'], ['Origin-X', 'b'], ['Sec-Fetch-Sites', 'c']] })).status).toBe(200);
  });
});

test('no answer of our own has a header of CORS', async () => {
  for (const request of [{}, { method: 'GET' }, { method: 'OPTIONS' }, { host: 'evil.example' }, { target: '/v1/models' }, { version: 'HTTP/1.2' }, { headers: [['Transfer-Encoding', 'x']] as HeaderLines }]) {
    expectNoCors(await ask(daemon.port, request));
  }
});
