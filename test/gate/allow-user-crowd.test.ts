import { expect, test, type TestContext } from 'vitest';
import { nobody, startDaemon, type Daemon } from '../support/daemon.ts';
import { rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, freePort, startUpstream, type Upstream } from '../support/upstream.ts';
import { root, visit, type Account, type Visited } from '../support/visitor.ts';

/** How many requests the user makes whose answers matter. */
const requests = 300;

async function start(context: TestContext): Promise<{ daemon: Daemon; upstream: Upstream; raw: (who: Account) => Buffer }> {
  needs(context, 'root');
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--allow-user', 'root'] });
  return { daemon, upstream, raw: ({ uid }) => rawRequest(daemon.port, { headers: [['X-Uid', String(uid)]] }) };
}

function statuses(visited: readonly Visited[]): Set<number | undefined> {
  return new Set(visited.map(({ status }) => status));
}

test('one user is served while another\'s connections come and go', async (context) => {
  const { daemon, upstream, raw } = await start(context);
  const stranger = visit(nobody, { port: daemon.port, raw: raw(nobody), how: 'any', times: 0, atOnce: 20 });
  await stranger.visits(20);
  const user = await visit(root, { port: daemon.port, raw: raw(root), times: requests, atOnce: 3 }).finish();
  const before = stranger.visited.length;
  await stranger.visits(before + 20);
  expect(statuses(user)).toEqual(new Set([200]));
  expect(user).toHaveLength(requests);
  // Those that waited for an answer got a refusal; the others left.
  expect(statuses(await stranger.finish())).toEqual(new Set([403, undefined]));
  expect(new Set(upstream.requests.flatMap((request) => request.values('x-uid')))).toEqual(new Set(['0']));
});

test('one user is refused while another\'s connections come and go', async (context) => {
  const { daemon, upstream, raw } = await start(context);
  const user = visit(root, { port: daemon.port, raw: raw(root), how: 'any', times: 0, atOnce: 20 });
  await user.visits(20);
  const stranger = await visit(nobody, { port: daemon.port, raw: raw(nobody), times: requests, atOnce: 3 }).finish();
  expect(statuses(stranger)).toEqual(new Set([403]));
  expect(stranger).toHaveLength(requests);
  expect(statuses(await user.finish())).toEqual(new Set([200, undefined]));
  expect(new Set(upstream.requests.flatMap((request) => request.values('x-uid')))).toEqual(new Set(['0']));
});

test('both by turns from one port', async (context) => {
  const { daemon, upstream, raw } = await start(context);
  const localPort = await freePort();
  const both = { port: daemon.port, localPort, how: 'reset', times: 0 } as const;
  const stranger = visit(nobody, { ...both, raw: raw(nobody) });
  const user = visit(root, { ...both, raw: raw(root) });
  await Promise.all([stranger.visits(500), user.visits(500)]);
  const visits = [await stranger.finish(), await user.finish()];
  // Each of them did get the port now and then.
  for (const visited of visits) expect(visited.filter(({ left }) => left === 'reset').length).toBeGreaterThan(10);
  await daemon.stop();
  for (const request of upstream.requests) expect(request.values('x-uid')).toEqual(['0']);
});
