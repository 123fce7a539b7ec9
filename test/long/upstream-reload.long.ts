import http from 'node:http';
import { expect, test } from 'vitest';
import { findPeer } from '../../scripts/bench/peers.ts';
import { caFile } from '../support/certificates.ts';
import { cleanUp } from '../support/cleanup.ts';
import { startDaemon } from '../support/daemon.ts';
import { post, realPeers, startBackend, type RealPeer } from '../support/real-peers.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

const rounds = 5;
const requestsPerRound = 2_000;
const atOnce = 16;

/** As many reloads per request for either: the slower one must not get more of them. */
const requestsPerReload = 200;

/** How unlikely a count must be, if both lose alike, for us to say that the daemon loses more. */
const significance = 0.001;

interface Tally {
  requests: number;
  lost: number;
}

test('an nginx that is reloaded under load: the daemon loses no more requests than nginx as a proxy does', { timeout: 300_000 }, async (context) => {
  needs(context, 'command nginx');
  const backend = await startBackend((res) => void res.end('{"ok":true}'));
  const upstream = await realPeers.nginx(backend.port);
  const daemon = await startDaemon({ args: upstream.args });
  const proxy = await findPeer('nginx', '');
  if (!('start' in proxy)) throw new Error(proxy.reason);
  const nginx = await proxy.start({ port: upstream.port, caFile: caFile(), token: daemon.key }, scratchFolder());
  cleanUp(() => nginx.stop());

  const ours: Tally = { requests: 0, lost: 0 };
  const theirs: Tally = { requests: 0, lost: 0 };
  for (let round = 0; round < rounds; round++) {
    await run('daemon', daemon.port, upstream, ours);
    await run('nginx', nginx.port, upstream, theirs);
  }
  console.log(`lost under reloads: daemon ${ours.lost} of ${ours.requests}, nginx ${theirs.lost} of ${theirs.requests}`);
  expect(new Set(backend.ids).size, 'a request was sent twice').toBe(backend.ids.length);
  expect(likelihood(ours, theirs), `daemon ${ours.lost} of ${ours.requests}, nginx ${theirs.lost} of ${theirs.requests}`).toBeGreaterThan(significance);
});

async function run(name: string, port: number, upstream: RealPeer, tally: Tally): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: atOnce });
  let started = 0;
  const work = async (): Promise<void> => {
    while (started < requestsPerRound) {
      started++;
      if (started % requestsPerReload === 0) upstream.reload();
      tally.requests++;
      if ((await post(port, `${name} ${tally.requests}`, agent)) !== 200) tally.lost++;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  agent.destroy();
}

/** How likely it is that at least so many of all that were lost are ours, if each request is lost alike (exact binomial test). */
function likelihood(ours: Tally, theirs: Tally): number {
  const all = ours.lost + theirs.lost;
  const share = ours.requests / (ours.requests + theirs.requests);
  let sum = 0;
  let term = (1 - share) ** all;
  for (let count = 0; count < ours.lost; count++) {
    sum += term;
    term *= ((all - count) / (count + 1)) * (share / (1 - share));
  }
  return 1 - sum;
}
