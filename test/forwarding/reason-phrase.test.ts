import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { ask } from '../support/raw-client.ts';
import { startUpstream } from '../support/upstream.ts';

test('a control character in the reason phrase: the client gets an error instead of waiting for ever', async () => {
  const upstream = await startUpstream({ answer: 'HTTP/1.1 200 O\x01K\r\ncontent-length: 2\r\n\r\nhi' });
  const daemon = await startDaemon({ args: upstream.args });
  const response = await ask(daemon.port);
  expect(response.status).toBe(502);
  expect(response.statusLine).toBe('HTTP/1.1 502 Bad Gateway');
  expect(envelopeOf(response).code).toBe('upstream_protocol');
});
