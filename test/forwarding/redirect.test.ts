import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { ask } from '../support/raw-client.ts';
import { answer, startUpstream } from '../support/upstream.ts';

test('redirects are mirrored, never followed', async () => {
  const [upstream, elsewhere] = await Promise.all([startUpstream(), startUpstream({ answer: answer(200, 'followed') })]);
  const daemon = await startDaemon({ args: upstream.args });
  for (const status of [300, 301, 302, 303, 304, 307, 308]) {
    for (const location of [elsewhere.url, '/v1/elsewhere', upstream.url]) {
      upstream.answerWith(answer(status, status === 304 ? '' : 'moved', [['Location', location]]));
      const response = await ask(daemon.port);
      expect(response.status).toBe(status);
      expect(response.values('location')).toEqual([location]);
      expect(response.text()).toBe(status === 304 ? '' : 'moved');
    }
  }
  expect(upstream.requests).toHaveLength(21);
  expect(elsewhere.connections).toHaveLength(0);
});
