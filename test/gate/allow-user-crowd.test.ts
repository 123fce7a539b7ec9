import { expect, test, type TestContext } from 'vitest';
import { nobody, startDaemon, type Daemon } from '../support/daemon.ts';
import { rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, freePort, startUpstream, type Upstream } from '../support/upstream.ts';
import { root, visit, type Account, type Visited } from '../support/visitor.ts';

/** How many requests of each user are checked one by one. */
const requests = 30;

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
  const refused = visit(nobody, { port: daemon.port, raw: raw(nobody), how: 'any', times: 0, atOnce: 20 });
  await refused.visits(20);
  const user = await visit(root, { port: daemon.port, raw: raw(root), times: requests, atOnce: 3 }).finish();
  const before = refused.visited.length;
  await refused.visits(before + 20);
  expect(statuses(user)).toEqual(new Set([200]));
  expect(user).toHaveLength(requests);
  // Those that waited for a response got a refusal; the others left first.
  expect(statuses(await refused.finish())).toEqual(new Set([403, undefined]));
  expect(new Set(upstream.requests.flatMap((request) => request.values('x-uid')))).toEqual(new Set(['0']));
});

test('one user is refused while another\'s connections come and go', async (context) => {
  const { daemon, upstream, raw } = await start(context);
  const user = visit(root, { port: daemon.port, raw: raw(root), how: 'any', times: 0, atOnce: 20 });
  await user.visits(20);
  const refused = await visit(nobody, { port: daemon.port, raw: raw(nobody), times: requests, atOnce: 3 }).finish();
  expect(statuses(refused)).toEqual(new Set([403]));
  expect(refused).toHaveLength(requests);
  expect(statuses(await user.finish())).toEqual(new Set([200, undefined]));
  expect(new Set(upstream.requests.flatMap((request) => request.values('x-uid')))).toEqual(new Set(['0']));
});

test('two users take turns on one port: only the allowed one is served', async (context) => {
  const { daemon, upstream, raw } = await start(context);
  const localPort = await freePort();
  const both = { port: daemon.port, localPort, how: 'reset', times: 0 } as const;
  const visitors = [visit(nobody, { ...both, raw: raw(nobody) }), visit(root, { ...both, raw: raw(root) })];
  // Each of them has the port now and then; the other's connect fails meanwhile.
  for (const visitor of visitors) await visitor.until((visited) => visited.filter(({ left }) => left === 'reset').length >= 20, '20 requests from the shared port');
  for (const visitor of visitors) await visitor.finish();
  await daemon.stop();
  for (const request of upstream.requests) expect(request.values('x-uid')).toEqual(['0']);
});
