import { expect, test } from 'vitest';
import { runToExit, startDaemon } from './support/daemon.ts';
import { envelopeOf } from './support/envelope.ts';
import { refusalOf } from './support/messages.ts';
import { ask } from './support/raw-client.ts';
import { answer, startUpstream } from './support/upstream.ts';

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

test('the default upstream follows the endpoint', async () => {
  // Port 1 of the proxy refuses, so nothing leaves; the message names the host that was asked for.
  const daemon = await startDaemon({ args: ['--endpoint', '/v1/embeddings', '--upstream-proxy', 'http://127.0.0.1:1'] });
  const response = await ask(daemon.port, { target: '/v1/embeddings' });
  expect(response.status).toBe(502);
  await daemon.waitForStderr(/api\.openai\.com/);
});

test.for(['v1/responses', '/v1/responses?x=1', '/v1/responses#x', '/a b', '/é', '/a\\b', '/shutdown', '/health', `/${'x'.repeat(2_000)}`])(
  '--endpoint %j is refused at start',
  async (endpoint) => {
    expect(refusalOf(await runToExit({ args: ['--endpoint', endpoint] }), 2)).toContain('--endpoint');
  },
);
