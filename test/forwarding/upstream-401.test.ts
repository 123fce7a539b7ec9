import { expect, test } from 'vitest';
import { startBoth } from '../support/proxied.ts';
import { answer } from '../support/upstream.ts';

test('an upstream that refuses the key is told in the log, in a clear line, and its answer passes', async () => {
  const both = await startBoth({ upstream: { answer: answer(401, '{"error":{"code":"invalid_api_key"}}') } });
  const response = await both.ask();
  expect(response.status).toBe(401);
  expect(response.text()).toContain('invalid_api_key');
  await both.daemon.waitForStderr(/^responses-api-proxy: the upstream answered 401: the key is wrong, expired or revoked\n/m);
});

test.for([404, 405])('the first %d is told, for the path may be wrong', async (status) => {
  const both = await startBoth({ upstream: { answer: answer(status, '{}') } });
  for (let count = 0; count < 3; count++) expect((await both.ask()).status).toBe(status);
  const { stderr } = await both.daemon.stop();
  expect(stderr.split('\n').filter((line) => line.includes(`answered ${status}`))).toEqual([`responses-api-proxy: the upstream answered ${status}: if it always does, --upstream-url has the wrong path`]);
});

test('many of them do not fill a disk', async () => {
  const both = await startBoth({ upstream: { answer: answer(401, '{}') } });
  const since = performance.now();
  for (let batch = 0; batch < 15; batch++) {
    for (const { status } of await Promise.all(Array.from({ length: 20 }, () => both.ask()))) expect(status).toBe(401);
  }
  const { stderr } = await both.daemon.stop();
  // A burst of 200 lines, and then one a second.
  const most = 201 + (performance.now() - since) / 1_000;
  expect(stderr.split('\n').filter((line) => line.includes('401')).length).toBeLessThan(most);
});
