import { expect, test } from 'vitest';
import { type Rules, judge } from '../../src/gate/gate.ts';
import { caFile } from '../support/certificates.ts';
import { startCorporateProxy } from '../support/corporate-proxy.ts';
import { misuseOf, optionsOf } from '../support/command-line.ts';
import { startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { ask } from '../support/raw-client.ts';
import { answer, startUpstream } from '../support/upstream.ts';

test('--endpoint serves exactly that target, and says so when it refuses another', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}'), path: '/v1/chat/completions' });
  const daemon = await startDaemon({ args: [...upstream.args, '--endpoint', '/v1/chat/completions'] });
  const [response, request] = await Promise.all([ask(daemon.port, { target: '/v1/chat/completions' }), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  expect(request.target).toBe('/v1/chat/completions');
  for (const target of ['/v1/responses', '/v1/chat/completions/', '/v1/chat/completions?', '/v1/chat/completion', '/v1/Chat/completions']) {
    const refused = await ask(daemon.port, { target });
    expect(refused.status).toBe(403);
    expect(envelopeOf(refused).message).toContain('POST /v1/chat/completions');
  }
  expect(upstream.requests).toHaveLength(1);
});

// Compared as text: exactly these are served, and no equivalent spelling.
test.for([
  ['/', ['', '//', '/?', '/x']],
  ['/v1/responses/', ['/v1/responses', '/v1/responses//']],
  ['/v1/../responses', ['/responses', '/v1/responses']],
  ['/a%20b%2Fc%00', ['/a b/c', '/a+b%2Fc%00', '/a%20b%2fc%00']],
  ['/*;a=b,c@d:e!$&\'()[]{}|^`"<>~', ['/*;a=b', '/*']],
  [`/${'x'.repeat(1023)}`, [`/${'x'.repeat(1022)}`, `/${'x'.repeat(1024)}`]],
] as const)('--endpoint %s is exactly that', async ([given, others]) => {
  const { endpoint } = await optionsOf(['--endpoint', given]);
  const rules: Rules = { endpoint, port: 8080, shutdown: true, health: true, websocketFallback: true, allowedUids: undefined, token: undefined };
  const isServed = (target: string): boolean => judge({ httpVersion: '1.1', method: 'POST', target, rawHeaders: ['Host', '127.0.0.1:8080'], peerUid: undefined }, rules) === 'forward';
  expect(isServed(given)).toBe(true);
  for (const target of [...others, `http://127.0.0.1:8080${given}`, `${given}?`, `${given}?a=b`, `${given}#a`]) expect(isServed(target), target).toBe(false);
});

test('the default upstream follows the endpoint', async () => {
  const endpoint = '/v1/../%2e/x/';
  const upstream = await startUpstream({ tls: 'wrongHost', answer: answer(200, '{}') });
  const proxy = await startCorporateProxy({ map: { 'api.openai.com:443': upstream.port } });
  const daemon = await startDaemon({ args: ['--endpoint', endpoint, '--upstream-ca', caFile(), '--upstream-proxy', proxy.url] });
  const [response, request] = await Promise.all([ask(daemon.port, { target: endpoint }), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  expect(request.startLine).toBe(`POST ${endpoint} HTTP/1.1`);
  expect(request.values('host')).toEqual(['api.openai.com']);
});

test.for(['v1/responses', '', '/v1/responses?x=1', '/v1/responses#x', '/a b', '/a\r\nX-Injected: 1', '/\u00e9', '/a\\b', '/shutdown', '/health', `/${'x'.repeat(1024)}`])(
  '--endpoint %j is refused at start',
  async (endpoint) => {
    expect((await misuseOf([`--endpoint=${endpoint}`])).message).toContain('--endpoint');
  },
);
