import { expect, test } from 'vitest';
import { runToExit, startDaemon } from './support/daemon.ts';
import { refusalOf } from './support/messages.ts';
import { ask } from './support/raw-client.ts';
import { answer, startUpstream } from './support/upstream.ts';

test('--upstream-header is sent in place of the client\'s, once for each', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({
    args: [...upstream.args, '--upstream-header', 'OpenAI-Organization: org-1', '--upstream-header', 'X-Empty:'],
  });
  const headers = [['openai-organization', 'theirs'], ['OPENAI-ORGANIZATION', 'theirs'], ['x-empty', 'theirs'], ['X-Other', 'stays']] as const;
  const [, request] = await Promise.all([ask(daemon.port, { headers }), upstream.nextRequest()]);
  expect(request.values('openai-organization')).toEqual(['org-1']);
  expect(request.values('x-empty')).toEqual(['']);
  expect(request.values('x-other')).toEqual(['stays']);
  expect(request.rawHead).not.toContain('theirs');
});

test.for([
  'no colon', ': no name', 'two words: x', 'Host: x', 'Content-Length: 1', 'Transfer-Encoding: chunked', 'Connection: close', 'Upgrade: x',
  'Proxy-Authorization: x', 'Expect: 100-continue', 'Authorization: Bearer x', 'AUTHORIZATION: x', 'X: a\nb', 'X: a\rb', 'X: a\u0001b', 'X: é',
])('--upstream-header %j is refused at start', async (header) => {
  expect(refusalOf(await runToExit({ args: ['--upstream-header', header] }), 2)).toContain('--upstream-header');
});

test('it cannot be the header that carries the key', async () => {
  const args = ['--auth-header', 'api-key', '--upstream-header', 'API-KEY: x'];
  expect(refusalOf(await runToExit({ args }), 2)).toContain('--upstream-header');
});
