import http from 'node:http';
import { expect, test } from 'vitest';
import { findPeer } from '../../scripts/bench/peers.ts';
import { caFile } from '../support/certificates.ts';
import { cleanUp } from '../support/cleanup.ts';
import { startDaemon } from '../support/daemon.ts';
import { post, realPeers, reloadNginx, startBackend, type RealPeer } from '../support/real-peers.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

/** Reloads under load, for each of the two. */
const reloads = 100;
const requestsAroundReload = 200;
const atOnce = 16;

/** How unlikely the losses must be, if both lose alike, for us to say that the daemon loses more. */
const significance = 0.001;

// A request that is written while the nginx at the other end has decided to close, and has not yet, is lost by any proxy
// that sends none twice. One reload can lose as many as are under way, so reloads are compared and not requests.
test('an nginx that is reloaded under load: the daemon loses no more requests than nginx as a proxy does', async (context) => {
  needs(context, 'command nginx');
  const backend = await startBackend((res) => void res.end('{"ok":true}'));
  const upstream = await realPeers.nginx(backend.port);
  const daemon = await startDaemon({ args: upstream.args });
  const proxy = await findPeer('nginx', '');
  if (!('start' in proxy)) throw new Error(proxy.reason);
  const nginx = await proxy.start({ port: upstream.port, caFile: caFile(), token: daemon.key }, scratchFolder());
  cleanUp(() => nginx.stop());

  const ours: number[] = [];
  const theirs: number[] = [];
  for (let reload = 0; reload < reloads; reload++) {
    ours.push(await lostInReload(upstream, daemon.port, `daemon ${reload}`));
    theirs.push(await lostInReload(upstream, nginx.port, `nginx ${reload}`));
  }
  const summary = `lost in ${reloads} reloads: daemon ${sum(ours)} (${ours.join(' ')}), nginx ${sum(theirs)} (${theirs.join(' ')})`;
  console.log(summary);
  expect(new Set(backend.ids).size, 'a request was sent twice').toBe(backend.ids.length);
  expect(likelihood(ours.map((lost, reload) => lost - (theirs[reload] ?? 0))), summary).toBeGreaterThan(significance);
});

/** Reloads the upstream in the middle of requests, and goes on with them until it has reloaded. Returns how many were lost. */
async function lostInReload(upstream: RealPeer, port: number, name: string): Promise<number> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: atOnce });
  let started = 0;
  let lost = 0;
  let reload: Promise<void> | undefined;
  let isReloaded = false;
  const work = async (): Promise<void> => {
    while (!isReloaded || started < requestsAroundReload) {
      started++;
      if (started >= requestsAroundReload / 2) reload ??= reloadNginx(upstream).finally(() => (isReloaded = true));
      if ((await post(port, `${name} ${started}`, agent)) !== 200) lost++;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  await reload;
  agent.destroy();
  return lost;
}

/** How likely it is that the differences come to so much, if each could as well be the other way round (exact sign-flip test). */
function likelihood(differences: readonly number[]): number {
  let sums = new Map([[0, 1]]);
  for (const difference of differences) {
    const next = new Map<number, number>();
    for (const [total, share] of sums) {
      for (const flipped of [total + difference, total - difference]) next.set(flipped, (next.get(flipped) ?? 0) + share / 2);
    }
    sums = next;
  }
  return sum([...sums].filter(([total]) => total >= sum(differences)).map(([, share]) => share));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
