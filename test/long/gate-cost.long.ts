import { expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { cpuMs } from '../support/process-facts.ts';
import { connect, rawRequest, type RawRequest } from '../support/raw-client.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const requests = 6_000;
const connections = 16;

/** What `requests` of these cost the daemon, in microseconds of CPU each. */
async function costOf(daemon: Daemon, request: RawRequest, status: number, isFresh = false): Promise<number> {
  const raw = rawRequest(daemon.port, request);
  const first = await connect(daemon.port);
  await first.send(raw);
  expect((await first.response()).status).toBe(status);
  // All answers have the length of the first one: how many have come is told by their bytes.
  const answerBytes = first.received.length;
  const run = async (count: number): Promise<void> => {
    await Promise.all(Array.from({ length: connections }, async () => {
      let client = await connect(daemon.port);
      let due = 0;
      for (let made = 0; made < count / connections; made++) {
        if (isFresh && made > 0) {
          client.close();
          client = await connect(daemon.port);
          due = 0;
        }
        await client.send(raw);
        await client.waitForBytes(due += answerBytes);
      }
      expect(client.received).toHaveLength(due);
      expect(client.text.split(`HTTP/1.1 ${status} `)).toHaveLength(due / answerBytes + 1);
      client.close();
    }));
  };
  await run(requests / 5); // warm
  const before = cpuMs(daemon.pid);
  await run(requests);
  return ((cpuMs(daemon.pid) - before) * 1_000) / requests;
}

test('refusing costs less CPU than forwarding', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  const body = `{"input":"${'x'.repeat(1_000)}"}`;
  const costs = {
    forwarded: await costOf(daemon, { body }, 200),
    'refused: another target': await costOf(daemon, { target: '/v1/models', body }, 403),
    'refused: a GET': await costOf(daemon, { method: 'GET', target: '/' }, 403),
    'refused: Origin': await costOf(daemon, { headers: [['Origin', 'null']], body }, 403),
    'refused: Host': await costOf(daemon, { host: 'evil.example', body }, 403),
    'forwarded, on fresh connections': await costOf(daemon, { body }, 200, true),
    'refused: framing, on fresh connections': await costOf(daemon, { headers: [['Transfer-Encoding', 'x, chunked']], body: undefined }, 400, true),
    'refused: not HTTP, on fresh connections': await costOf(daemon, { version: 'HTTP/x' }, 400, true),
  };
  console.log(Object.entries(costs).map(([name, cost]) => `${name}: ${cost.toFixed(0)} us of CPU each`).join('\n'));
  // Every forwarded one was a whole exchange: two times the first, the warm-up and the run.
  expect(upstream.requests).toHaveLength(2 * (1 + requests / 5 + requests));
  for (const [name, cost] of Object.entries(costs)) {
    if (!name.startsWith('refused')) continue;
    expect(cost, name).toBeLessThan(costs[name.endsWith('fresh connections') ? 'forwarded, on fresh connections' : 'forwarded']);
  }
});

test('asking who is at the other end costs little', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const [asking, not] = await Promise.all([startDaemon({ args: [...upstream.args, '--allow-user', String(process.getuid?.())] }), startDaemon({ args: upstream.args })]);
  const costs = { 'with --allow-user': Infinity, without: Infinity };
  for (let round = 0; round < 3; round++) {
    costs['with --allow-user'] = Math.min(costs['with --allow-user'], await costOf(asking, {}, 200, true));
    costs.without = Math.min(costs.without, await costOf(not, {}, 200, true));
  }
  console.log(Object.entries(costs).map(([name, cost]) => `${name}: ${cost.toFixed(0)} us of CPU for a request on a connection of its own`).join('\n'));
  // A ratio of the quietest of three rounds each, in turns: machines differ, and are noisy.
  expect(costs['with --allow-user'] / costs.without).toBeLessThan(1.5);
});
