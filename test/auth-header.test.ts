import { expect, test } from 'vitest';
import { runToExit, startDaemon } from './support/daemon.ts';
import { refusalOf } from './support/messages.ts';
import { ask } from './support/raw-client.ts';
import { answer, startUpstream } from './support/upstream.ts';

test('--auth-header and --auth-scheme none: the key goes where Azure wants it, and nowhere else', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--auth-header', 'api-key', '--auth-scheme', 'none'] });
  const headers = [['Authorization', 'Bearer theirs'], ['API-Key', 'theirs'], ['X-Other', 'stays']] as const;
  const [response, request] = await Promise.all([ask(daemon.port, { headers }), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  expect(request.values('api-key')).toEqual([daemon.key]);
  expect(request.values('authorization')).toEqual([]);
  expect(request.values('x-other')).toEqual(['stays']);
  expect(request.rawHead).not.toContain('theirs');
});

test('--auth-scheme: another word before the key', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--auth-scheme', 'Token'] });
  const [, request] = await Promise.all([ask(daemon.port), upstream.nextRequest()]);
  expect(request.values('authorization')).toEqual([`Token ${daemon.key}`]);
});

test.for(['Host', 'Content-Length', 'transfer-encoding', 'Connection', 'TE', 'Proxy-Authorization', 'Accept-Encoding', 'Expect', 'two words', 'a:b', 'é'])(
  '--auth-header %s is refused at start',
  async (name) => {
    expect(refusalOf(await runToExit({ args: ['--auth-header', name] }), 2)).toContain('--auth-header');
  },
);

test.for(['two words', 'a:b', 'line\nbreak'])('--auth-scheme %j is refused at start', async (scheme) => {
  expect(refusalOf(await runToExit({ args: ['--auth-scheme', scheme] }), 2)).toContain('--auth-scheme');
});
