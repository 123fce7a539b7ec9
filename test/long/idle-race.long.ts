import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { Random, seed } from '../support/random.ts';
import { post, realPeers, startBackend, type Backend, type RealPeer } from '../support/real-peers.ts';
import { startRelay } from '../support/relay.ts';
import { needs } from '../support/skip.ts';

const keepAliveMs = 200;
const requests = 150;

/** How far from the moment at which the upstream closes a request may be, in ms. */
const aroundMs = 3;
const stepMs = 1;

/** From this long after the FIN on there is no excuse for a request that is lost. */
const graceMs = 1;

describe.for(['nginx', 'haproxy'] as const)('an idle connection that %s closes', (command) => {
  test(`requests at about that moment: each goes out once, and none is lost ${graceMs} ms after the FIN (seed ${seed})`, async (context) => {
    needs(context, `command ${command}`);
    const random = new Random(seed);
    const backend = await startBackend((res) => void res.end('{"ok":true}'));
    const upstream = await realPeers[command](backend.port, { keepAliveMs });
    const relay = await startRelay(upstream.port);
    const daemon = await startDaemon({ args: [...through(upstream, relay.port)] });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

    // The moment is to be met, also on a machine that is late: each request is sent somewhat earlier than the one before
    // if that one came too late, and somewhat later if it came too early.
    let idleMs = keepAliveMs;
    const lost: string[] = [];
    const late: string[] = [];
    let after = 0;
    for (let count = 0; count < requests; count++) {
      // The one in use; a spare one may be younger.
      const [connection] = relay.connections.filter(({ ended }) => !ended).sort((one, other) => other.heardAtMs - one.heardAtMs);
      await until(performance.now() + idleMs + random.whole(-aroundMs * 10, aroundMs * 10) / 10);
      const sentAtMs = performance.now();
      const sinceFinMs = sentAtMs - (connection?.finishedAtMs ?? Infinity);
      const status = await post(daemon.port, `request ${count}`, agent);
      if (sinceFinMs >= 0) after++;
      idleMs += sinceFinMs >= 0 ? -stepMs : stepMs;
      if (status === 200) continue;
      lost.push(`request ${count}: ${status}`);
      if (sinceFinMs >= graceMs) late.push(`request ${count}, ${sinceFinMs} ms after the FIN`);
    }
    agent.destroy();
    console.log(`${command}: ${requests} requests, ${after} after the FIN, ${lost.length} lost; sent after about ${idleMs.toFixed(1)} ms`);
    expect(late).toEqual([]);
    expect(after, 'requests after the FIN').toBeGreaterThan(requests / 10);
    expectNoneTwice(backend);
    // Those that the upstream acted on are told as lost at the worst, never the other way round.
    expect(backend.ids.length).toBeGreaterThanOrEqual(requests - lost.length);
  });
});

test('a warm connection that HAProxy ends with a 408: the first request goes out on another', async (context) => {
  needs(context, 'command haproxy');
  const backend = await startBackend((res) => void res.end('{"ok":true}'));
  const upstream = await realPeers.haproxy(backend.port, { firstRequestMs: 300 });
  const relay = await startRelay(upstream.port);
  const daemon = await startDaemon({ args: through(upstream, relay.port) });
  const warm = await relay.nextConnection();
  await relay.until(() => warm.finishedAtMs !== undefined, 'HAProxy to end it');
  expect(await post(daemon.port, 'the first', http.globalAgent)).toBe(200);
  expect(backend.ids).toEqual(['the first']);
});

function through(upstream: RealPeer, port: number): string[] {
  return upstream.args.map((arg) => arg.replace(`:${upstream.port}/`, `:${port}/`));
}

/** Timers of node's are late by up to a millisecond; this is not. */
async function until(atMs: number): Promise<void> {
  await sleep(Math.max(0, atMs - performance.now() - 2));
  while (performance.now() < atMs) await new Promise((resolve) => setImmediate(resolve));
}

function expectNoneTwice({ ids }: Backend): void {
  expect(ids).toEqual([...new Set(ids)]);
}
