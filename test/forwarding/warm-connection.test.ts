import { describe, expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { startCorporateProxy } from '../support/corporate-proxy.ts';
import { asking, startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { answer, startUpstream } from '../support/upstream.ts';

describe('one connection is made at start', () => {
  test('verified, with nothing sent, and the first request goes out on it', async () => {
    const both = await startBoth({ upstream: { answer: answer(200, '{}') } });
    await both.upstream.until(() => both.upstream.connections.length === 1, 'the warm connection');
    const [connection] = both.upstream.connections;
    await both.upstream.until(() => connection?.tls !== undefined, 'its handshake');
    expect(connection?.receivedBytes).toBe(0);
    expect((await both.ask()).status).toBe(200);
    expect(both.upstream.connections).toHaveLength(1);
  });

  test('through a corporate proxy too', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const proxy = await startCorporateProxy();
    const daemon = await startDaemon({ args: [...upstream.args, '--upstream-proxy', proxy.url] });
    await upstream.until(() => upstream.connections[0]?.tls !== undefined, 'the warm connection');
    expect((await ask(daemon.port)).status).toBe(200);
    expect(proxy.requests).toHaveLength(1);
    expect(upstream.connections).toHaveLength(1);
  });

  test('a failure is one line, and the daemon serves', async () => {
    const upstream = await startUpstream({ tls: 'expired', answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--http-health'] });
    await daemon.waitForStderr(/^responses-api-proxy: no connection to the upstream yet: upstream_tls: localhost:\d+: .*expired.*\n/m);
    expect(daemon.stderr.split('\n').filter((line) => line.includes('upstream_tls'))).toHaveLength(1);
    expect((await ask(daemon.port, { method: 'GET', target: '/health' })).status).toBe(200);
    expect((await ask(daemon.port)).status).toBe(502);
  });
});

describe('when the upstream closes it', () => {
  test('another is made after a request, and the next request goes out on that', async () => {
    const both = await startBoth({ upstream: { answer: answer(200, '{}', [['connection', 'close']]) } });
    for (let count = 1; count <= 5; count++) {
      await both.upstream.until(() => both.upstream.openConnections.some(({ tls, requests }) => tls !== undefined && requests.length === 0), 'a warm connection');
      expect((await both.ask()).status).toBe(200);
      expect(both.upstream.connections.filter(({ requests }) => requests.length > 0)).toHaveLength(count);
    }
    // Never more than one that nothing asked for.
    expect(both.upstream.connections.length).toBeLessThanOrEqual(6);
  });

  test('none is made without a request', async () => {
    const both = await startBoth({ upstream: { answer: answer(200, '{}') } });
    await both.upstream.until(() => both.upstream.connections[0]?.tls !== undefined, 'the warm connection');
    both.upstream.connections[0]?.close();
    // The control: what comes next is the connection of a request.
    expect((await both.ask()).status).toBe(200);
    expect(both.upstream.connections.map(({ requests }) => requests.length)).toEqual([0, 1]);
  });

  test('bytes that come before a request make it useless', async () => {
    const both = await startBoth({ upstream: { answer: answer(200, 'mine') } });
    await both.upstream.until(() => both.upstream.connections[0]?.tls !== undefined, 'the warm connection');
    const [warm] = both.upstream.connections;
    await warm?.send(answer(200, 'planted'));
    await warm?.closed();
    expect((await both.ask()).text()).toBe('mine');
  });

  test('an upstream that closes it at once is left alone for a while', async () => {
    const both = await startBoth({ upstream: { answer: answer(200, '{}') } });
    expect((await both.ask()).status).toBe(200);
    const { upstream } = both;
    const closedAtMs: number[] = [];
    for (let count = 1; count <= 3; count++) {
      await upstream.until(() => upstream.connections[count - 1]?.tls !== undefined, `connection ${count}`);
      closedAtMs.push(performance.now());
      upstream.connections[count - 1]?.close();
    }
    const [, second = 0, third = 0] = closedAtMs;
    expect(third - second).toBeGreaterThan(900);
  });
});

test('a second request at once has a connection of its own', async () => {
  const both = await startBoth();
  const one = await asking(both);
  const two = await asking(both);
  expect(one.request.connection).not.toBe(two.request.connection);
});
