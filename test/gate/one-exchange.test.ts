import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream } from '../support/upstream.ts';

test('a connection has one exchange at a time', async () => {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  const client = await connect(daemon.port);
  await client.send(Buffer.concat(Array.from({ length: 5 }, (_, index) => rawRequest(daemon.port, { body: `{"n":${index}}` }))));
  for (let index = 0; index < 5; index++) {
    const request = await (await upstream.nextRequest()).complete();
    expect(request.body.toString()).toBe(`{"n":${index}}`);
    // Another client is served in between: the first one's further requests are not at the upstream.
    const other = await connect(daemon.port);
    await other.send(rawRequest(daemon.port, { body: '{"other":true}' }));
    const others = await (await upstream.nextRequest()).complete();
    expect(others.body.toString()).toBe('{"other":true}');
    expect(upstream.requests).toHaveLength(2 * index + 2);
    await others.reply(answer(200, '{}'));
    await other.response();
    await request.reply(answer(200, `{"n":${index}}`));
    expect((await client.response()).text()).toBe(`{"n":${index}}`);
  }
});

test('a flood of requests on one connection is handled one exchange at a time', async () => {
  const upstream = await startUpstream({ tls: false });
  const daemon = await startDaemon({ args: upstream.args });
  const client = await connect(daemon.port);
  await client.send(Buffer.concat(Array.from({ length: 2_000 }, () => rawRequest(daemon.port, { headers: [['X-Flood', 'yes']] }))));
  const other = await connect(daemon.port);
  await other.send(rawRequest(daemon.port));
  await upstream.until(() => upstream.requests.some((request) => request.values('x-flood').length === 0), 'the request of another client');
  // The flood may have been cut off entirely.
  expect(upstream.requests.length).toBeLessThanOrEqual(2);
  for (const request of upstream.requests) await request.reply(answer(200, '{}'));
  expect((await other.response()).status).toBe(200);
});
