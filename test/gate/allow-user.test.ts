import { describe, expect, test, type TestContext } from 'vitest';
import { nobody, startDaemon, type Daemon } from '../support/daemon.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';
import { askAs, root, type Account, type Visit } from '../support/visitor.ts';

const third: Account = { uid: 54_321, gid: 54_321 };
const served = { status: 200 };
const refused = { status: 403, code: 'user_not_allowed' };

async function start(context: TestContext, ...users: string[]): Promise<{ daemon: Daemon; upstream: Upstream; ask: (account: Account, visit?: Partial<Visit>) => ReturnType<typeof askAs> }> {
  needs(context, 'root');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', ...users.flatMap((user) => ['--allow-user', user])] });
  return { daemon, upstream, ask: (account, visit = {}) => askAs(account, { port: daemon.port, raw: rawRequest(daemon.port), ...visit }) };
}

describe('one user is served and another refused', () => {
  test.for([['by name', 'nobody'], ['by uid', String(nobody.uid)]])('%s', async ([, user = ''], context) => {
    const { daemon, upstream, ask } = await start(context, user);
    expect(await ask(nobody)).toMatchObject(served);
    expect(await ask(root)).toEqual(refused);
    expect(await ask(third)).toEqual(refused);
    expect(await ask(root, { raw: rawRequest(daemon.port, { method: 'GET', target: '/shutdown' }) })).toEqual(refused);
    expect(upstream.requests).toHaveLength(1);
    expect(await ask(nobody, { raw: rawRequest(daemon.port, { method: 'GET', target: '/shutdown' }) })).toMatchObject(served);
    expect((await daemon.waitForExit()).code).toBe(0);
  });

  test('root', async (context) => {
    const { upstream, ask } = await start(context, '0');
    expect(await ask(root)).toMatchObject(served);
    expect(await ask(nobody)).toEqual(refused);
    expect(upstream.requests).toHaveLength(1);
  });

  test('several users', async (context) => {
    const { ask } = await start(context, 'root', String(nobody.uid));
    expect(await ask(root)).toMatchObject(served);
    expect(await ask(nobody)).toMatchObject(served);
    expect(await ask(third)).toEqual(refused);
  });
});

describe('the other end is found', () => {
  const clients: Record<string, Partial<Visit>> = {
    'in an IPv6 socket that speaks IPv4': { host: '::ffff:127.0.0.1' },
    'in an IPv6 socket that is bound': { host: '::ffff:127.0.0.1', localAddress: '::ffff:127.0.0.1' },
    'at another loopback address': { localAddress: '127.0.0.5' },
    'at another loopback address, in an IPv6 socket': { host: '::ffff:127.0.0.1', localAddress: '::ffff:127.9.9.9' },
  };
  test('wherever it is', async (context) => {
    const { upstream, ask } = await start(context, 'nobody');
    for (const [where, client] of Object.entries(clients)) {
      expect(await ask(nobody, client), where).toMatchObject(served);
      expect(await ask(root, client), where).toEqual(refused);
    }
    expect(upstream.requests).toHaveLength(Object.keys(clients).length);
  });
});

test('the daemon needs no root for it', async (context) => {
  needs(context, 'root and a build that other users can run');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--allow-user', 'root'], user: nobody });
  expect(await askAs(root, { port: daemon.port, raw: rawRequest(daemon.port) })).toMatchObject(served);
  expect(await askAs(nobody, { port: daemon.port, raw: rawRequest(daemon.port) })).toEqual(refused);
});

test('the daemon\'s own user is not served by that alone', async (context) => {
  const { daemon, upstream } = await start(context, 'nobody');
  expect((await ask(daemon.port)).status).toBe(403);
  // A connection may be kept warm, but carries nothing.
  expect(upstream.receivedBytes).toBe(0);
});

test('each request on a refused connection is refused', async (context) => {
  const { daemon, upstream } = await start(context, 'nobody');
  const client = await connect(daemon.port);
  await client.send(Buffer.concat(Array.from({ length: 10 }, () => rawRequest(daemon.port))));
  expect((await client.responses(10)).map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 403));
  // A connection may be kept warm, but carries nothing.
  expect(upstream.receivedBytes).toBe(0);
});

test('without the flag everyone is served', async (context) => {
  const { ask } = await start(context);
  for (const account of [root, nobody, third]) expect(await ask(account)).toMatchObject(served);
});
