import { expect, test, type TestContext } from 'vitest';
import { nobody, startDaemon, type Daemon } from '../support/daemon.ts';
import { rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, freePort, startUpstream, type Upstream } from '../support/upstream.ts';
import { askAs, root, visit } from '../support/visitor.ts';

// The kernel shows a socket that its owner has closed as one of uid 0 and inode 0. It belongs to no user, least of all to root.
// While the daemon is stopped (SIGSTOP), the kernel completes connections for it; when it continues, their other ends are certainly orphans.

async function start(context: TestContext, user: string): Promise<{ daemon: Daemon; upstream: Upstream; raw: (who: string) => Buffer }> {
  needs(context, 'root');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', '--allow-user', user] });
  return { daemon, upstream, raw: (who) => rawRequest(daemon.port, { headers: [['X-Who', who]] }) };
}

/** How many requests were refused because of their user. So few have a line each. */
function refusedUsers(stderr: string): number {
  return stderr.split('refused (user_not_allowed)').length - 1;
}

/** The users whose requests arrived, once the daemon has handled everything it was sent. */
async function arrived(daemon: Daemon, upstream: Upstream): Promise<Set<string | undefined>> {
  const { code } = await daemon.stop();
  expect(code).toBe(0);
  return new Set(upstream.requests.map((request) => request.values('x-who')[0]));
}

test.for(['close', 'reset'] as const)('a refused user that sends and leaves at once (%s) is not mistaken for root', async (how, context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  daemon.signal('SIGSTOP');
  await visit(nobody, { port: daemon.port, raw: raw('refused'), how, times: 50, atOnce: 5 }).finish();
  await visit(nobody, { port: daemon.port, raw: rawRequest(daemon.port, { method: 'GET', target: '/shutdown' }), how, times: 10 }).finish();
  daemon.signal('SIGCONT');
  expect(await askAs(root, { port: daemon.port, raw: raw('root') })).toMatchObject({ status: 200 });
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
  // An admitted request may be cancelled before it goes upstream, because its client has left. So count the refusals; after a reset there may be nothing left to read.
  if (how === 'close') expect(refusedUsers(daemon.stderr)).toBe(60);
});

test('a refused user that is killed is not mistaken for root', async (context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  daemon.signal('SIGSTOP');
  const visitor = visit(nobody, { port: daemon.port, raw: raw('refused'), how: 'hold', times: 50 });
  await visitor.visits(50);
  await visitor.kill();
  daemon.signal('SIGCONT');
  expect(await askAs(root, { port: daemon.port, raw: raw('root') })).toMatchObject({ status: 200 });
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
  expect(refusedUsers(daemon.stderr)).toBe(50);
});

test('a refused user\'s connection is not mistaken for the next one from the same port, which is the allowed user\'s', async (context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  for (let count = 0; count < 4; count++) {
    const localPort = await freePort();
    daemon.signal('SIGSTOP');
    expect(await askAs(nobody, { port: daemon.port, raw: raw('refused'), how: 'reset', localPort })).toEqual({ left: 'reset' });
    const holder = visit(root, { port: daemon.port, raw: '', how: 'hold', localPort });
    await holder.visits(1);
    expect(holder.visited).toEqual([{ connected: true }]);
    daemon.signal('SIGCONT');
    expect(await askAs(root, { port: daemon.port, raw: raw('root') })).toMatchObject({ status: 200 });
    await holder.kill();
  }
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
});

test('the allowed user is served from a port that a refused user has just used', async (context) => {
  const { daemon, upstream, raw } = await start(context, 'root');
  for (let count = 0; count < 4; count++) {
    const localPort = await freePort();
    await askAs(nobody, { port: daemon.port, raw: raw('refused'), how: 'reset', localPort });
    expect(await askAs(root, { port: daemon.port, raw: raw('root'), localPort })).toMatchObject({ status: 200 });
  }
  expect(await arrived(daemon, upstream)).toEqual(new Set(['root']));
});
