import { beforeAll, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { runTool } from '../support/native-tools.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{"id":"resp_1"}') });
  daemon = await startDaemon({ args: upstream.args });
});

const h2c: HeaderLines = [['Connection', 'Upgrade, HTTP2-Settings'], ['Upgrade', 'h2c'], ['HTTP2-Settings', 'AAMAAABkAAQCAAAAAAIAAAAA']];
const websocket: HeaderLines = [['Connection', 'keep-alive, Upgrade'], ['Upgrade', 'websocket'], ['Sec-WebSocket-Version', '13'], ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==']];

test.for<[string, HeaderLines]>([['h2c', h2c], ['websocket', websocket]])('an offer of %s on an admitted request is ignored and stripped', async ([, headers]) => {
  const [response, request] = await Promise.all([ask(daemon.port, { headers, body: '{"a":1}' }), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  expect(response.text()).toBe('{"id":"resp_1"}');
  expect(response.values('upgrade')).toEqual([]);
  expect(request.values('upgrade')).toEqual([]);
  expect(request.values('http2-settings')).toEqual([]);
  expect(request.values('connection').join()).not.toMatch(/upgrade|http2/i);
  expect(request.body.toString()).toBe('{"a":1}');
});

test('an Upgrade that Connection does not name is stripped all the same', async () => {
  const [response, request] = await Promise.all([ask(daemon.port, { headers: [['Upgrade', 'h2c']] }), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  expect(request.values('upgrade')).toEqual([]);
});

test('it is the last request on its connection; what follows is ignored', async () => {
  const before = upstream.requests.length;
  const client = await connect(daemon.port);
  await client.send(Buffer.concat([rawRequest(daemon.port, { headers: h2c }), rawRequest(daemon.port)]));
  const response = await client.response();
  expect(response.status).toBe(200);
  expect(response.values('connection')).toEqual(['close']);
  await client.closed;
  expect(upstream.requests.length).toBe(before + 1);
});

test('an Upgrade on a request that is not admitted is refused', async () => {
  const before = upstream.requests.length;
  for (const headers of [h2c, websocket]) {
    const response = await ask(daemon.port, { method: 'GET', headers });
    expect(response.status).toBe(403);
    envelopeOf(response);
  }
  expect(upstream.requests).toHaveLength(before);
});

test('curl --http2 is served', async (context) => {
  needs(context, 'command curl');
  const curl = await runTool('curl', ['--silent', '--show-error', '--http2', '--max-time', '10', '--data', '{"a":1}', '--write-out', ' %{http_version} %{response_code}', daemon.url]);
  expect(curl).toEqual({ code: 0, stdout: '{"id":"resp_1"} 1.1 200', stderr: '' });
});
