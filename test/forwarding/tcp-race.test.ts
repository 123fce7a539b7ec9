import net from 'node:net';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { addressesOf, raceTcp, takingTurns } from '../../src/proxy/tcp-race.ts';
import { cleanUp } from '../support/cleanup.ts';
import { eventually, isConnecting } from '../support/process-facts.ts';
import { listenSilently } from '../support/silent-listener.ts';
import { freePort } from '../support/upstream.ts';

const ipv4 = (address: string) => ({ address, family: 4 });
const ipv6 = (address: string) => ({ address, family: 6 });
/** No route leads to what is for documentation (RFC 3849), or nothing comes back. */
const nowhere = ipv6('2001:db8::1');

/** Listens on addresses of loopback, all with one port. Returns the first bytes of each connection, by its address. */
async function listenOn(port: number, ...hosts: string[]): Promise<Record<string, string[]>> {
  const received: Record<string, string[]> = {};
  for (const host of hosts) {
    const connections: string[] = (received[host] = []);
    const server = net.createServer((socket) => {
      const index = connections.push('') - 1;
      socket.on('data', (bytes) => (connections[index] += bytes.toString())).on('error', () => {});
    });
    await new Promise<void>((resolve) => server.listen(port, host, resolve));
    cleanUp(() => new Promise((resolve) => server.close(resolve)));
  }
  return received;
}

async function race(port: number, ...addresses: ReturnType<typeof ipv4>[]): Promise<net.Socket> {
  const socket = await raceTcp(addresses, port, new AbortController().signal);
  cleanUp(() => void socket.destroy());
  return socket;
}

describe('of several addresses', () => {
  test('the first that answers is taken, behind one that does not', async () => {
    const { port } = await listenSilently();
    await listenOn(port, '127.0.0.2');
    const socket = await race(port, ipv4('127.0.0.1'), ipv4('127.0.0.2'));
    expect(socket.remoteAddress).toBe('127.0.0.2');
    await eventually(() => !isConnecting(port), () => 'the end of the other attempt');
  });

  test('one that answers late is waited for', async () => {
    const { port, answer } = await listenSilently();
    const racing = race(port, ipv4('127.0.0.1'), ipv4('127.0.0.2'), nowhere);
    await eventually(() => isConnecting(port), () => 'an attempt');
    answer(); // to the second SYN, which the kernel sends after a second
    expect((await racing).remoteAddress).toBe('127.0.0.1');
  });

  test('one follows at once on another that refuses', async () => {
    const port = await freePort();
    await listenOn(port, '127.0.0.8');
    const refusing = Array.from({ length: 7 }, (_, index) => ipv4(`127.0.0.${index + 1}`));
    vi.useFakeTimers({ toFake: ['setTimeout'] }); // which never come to their end
    onTestFinished(() => void vi.useRealTimers());
    expect((await race(port, ...refusing, ipv4('127.0.0.8'))).remoteAddress).toBe('127.0.0.8');
  });

  test('one that loses gets no byte', async () => {
    const port = await freePort();
    const received = await listenOn(port, '127.0.0.1', '127.0.0.2');
    for (let count = 0; count < 50; count++) {
      const socket = await race(port, ipv4('127.0.0.3'), ipv4('127.0.0.1'), ipv4('127.0.0.2'));
      socket.write('x');
    }
    await eventually(() => received['127.0.0.1']?.filter((bytes) => bytes === 'x').length === 50, () => 'fifty bytes');
    expect(received['127.0.0.2']?.join('')).toBe('');
  });

  test('the families take turns, in the resolver\'s order', () => {
    const [a, b, c, d, e] = [ipv6('::a'), ipv6('::b'), ipv6('::c'), ipv4('10.0.0.1'), ipv4('10.0.0.2')] as const;
    expect(takingTurns([a, b, c, d, e])).toEqual([a, d, b, e, c]);
    expect(takingTurns([d, e, a])).toEqual([d, a, e]);
    expect(takingTurns([a])).toEqual([a]);
  });
});

test('where all fail, the first error that tells more than the lack of a route', async () => {
  const port = await freePort();
  await expect(race(port, ipv4('127.0.0.1'), ipv4('127.0.0.2'))).rejects.toThrow(`connect ECONNREFUSED 127.0.0.1:${port}`);
  await expect(race(port, ipv4('255.255.255.255'), ipv4('127.0.0.2'))).rejects.toThrow(`connect ECONNREFUSED 127.0.0.2:${port}`);
});

test('an abort ends all attempts', async () => {
  const { port } = await listenSilently();
  const controller = new AbortController();
  void raceTcp([ipv4('127.0.0.1'), ipv4('127.0.0.1')], port, controller.signal);
  await eventually(() => isConnecting(port), () => 'an attempt');
  controller.abort();
  await eventually(() => !isConnecting(port), () => 'its end');
});

test('a lookup under way serves all who ask, and a later one is made anew', async () => {
  const lookUp = addressesOf('localhost', 4);
  const first = lookUp();
  expect(lookUp()).toBe(first);
  expect(await first).toContainEqual(ipv4('127.0.0.1'));
  expect(lookUp()).not.toBe(first);
});
