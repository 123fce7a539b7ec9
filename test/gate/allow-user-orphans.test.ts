import { expect, test, type TestContext } from 'vitest';
import { nobody, startDaemon, type Daemon } from '../support/daemon.ts';
import { rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, freePort, startUpstream, type Upstream } from '../support/upstream.ts';
import { askAs, root, visit } from '../support/visitor.ts';

// The kernel shows a socket that its owner has closed as one of uid 0 and inode 0. It is nobody's, least of all root's.
// While the daemon is stopped, the kernel completes connections for it; when it goes on, their other ends are orphans for certain.

async function start(context: TestContext, user: string): Promise<{ daemon: Daemon; upstream: Upstream; raw: (who: string) => Buffer }> {
  needs(context, 'root');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', '--allow-user', user] });
  return { daemon, upstream, raw: (who) => rawRequest(daemon.port, { headers: [['X-Who', who]] }) };
}

/** How many requests were refused for their user, as stderr tells once the daemon has ended: the first by a line of its own, the others by counts. */
function refusedUsers(stderr: string): number {
  const first = stderr.includes('refused (user_not_allowed)') ? 1 : 0;
  return [...stderr.matchAll(/\b(\d+) user_not_allowed/g)].reduce((sum, [, count]) => sum + Number(count), first);
}

/** Whose requests arrived, once the daemon has dealt with all that it was sent. */
async function arrived(daemon: Daemon, upstream: Upstream): Promise<Set<string | undefined>> {
  const { code } = await daemon.stop();
  expect(code).toBe(0);
  return new Set(upstream.requests.map((request) => request.values('x-who')[0]));
}

test.for(['close', 'reset'] as const)('a stranger that sends and leaves at once (%s) is not taken for root', async (how, context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  daemon.signal('SIGSTOP');
  await visit(nobody, { port: daemon.port, raw: raw('stranger'), how, times: 50, atOnce: 5 }).finish();
  await visit(nobody, { port: daemon.port, raw: rawRequest(daemon.port, { method: 'GET', target: '/shutdown' }), how, times: 10 }).finish();
  daemon.signal('SIGCONT');
  expect(await askAs(root, { port: daemon.port, raw: raw('root') })).toMatchObject({ status: 200 });
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
  // An admitted request may be given up before it goes upstream, because its client has left. So see that each was refused; of a reset, nothing may be left to be read.
  if (how === 'close') expect(refusedUsers(daemon.stderr)).toBe(60);
});

test('a stranger that is killed is not taken for root', async (context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  daemon.signal('SIGSTOP');
  const stranger = visit(nobody, { port: daemon.port, raw: raw('stranger'), how: 'hold', times: 50 });
  await stranger.visits(50);
  await stranger.kill();
  daemon.signal('SIGCONT');
  expect(await askAs(root, { port: daemon.port, raw: raw('root') })).toMatchObject({ status: 200 });
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
  expect(refusedUsers(daemon.stderr)).toBe(50);
});

test('a stranger\'s connection is not taken for the one that the allowed user opens from the same port after it', async (context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  for (let count = 0; count < 10; count++) {
    const localPort = await freePort();
    daemon.signal('SIGSTOP');
    expect(await askAs(nobody, { port: daemon.port, raw: raw('stranger'), how: 'reset', localPort })).toEqual({ left: 'reset' });
    const holder = visit(root, { port: daemon.port, raw: '', how: 'hold', localPort });
    await holder.visits(1);
    expect(holder.visited).toEqual([{ connected: true }]);
    daemon.signal('SIGCONT');
    expect(await askAs(root, { port: daemon.port, raw: raw('root') })).toMatchObject({ status: 200 });
    await holder.kill();
  }
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
});

test('the allowed user is served from a port that a stranger used just before', async (context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  for (let count = 0; count < 10; count++) {
    const localPort = await freePort();
    await askAs(nobody, { port: daemon.port, raw: raw('stranger'), how: 'reset', localPort });
    expect(await askAs(root, { port: daemon.port, raw: raw('root'), localPort })).toMatchObject({ status: 200 });
  }
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
});
