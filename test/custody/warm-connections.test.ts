import { expect, test } from 'vitest';
import { startCorporateProxy } from '../support/corporate-proxy.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { scanMemory } from '../support/memory.ts';
import { ask } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

const rounds = 10;

test.for([
  ['TLS 1.3', {}, false],
  ['TLS 1.2', { maxVersion: 'TLSv1.2' }, false],
  ['through a corporate proxy', {}, true],
] as const)('root finds no copy of the key while connections are made warm, lie idle, are closed and made again: %s', async ([, secureContext, throughProxy], context) => {
  needs(context, 'root', 'command cc');
  const upstream = await startUpstream({ secureContext, answer: answer(200, '{}') });
  const proxy = throughProxy ? ['--upstream-proxy', (await startCorporateProxy()).url] : [];
  const daemon = await startDaemon({ args: [...upstream.args, ...proxy] });
  await warm(upstream);
  await expectNoCopy(daemon);
  for (let round = 0; round < rounds; round++) {
    expect((await ask(daemon.port, { body: '{}' })).status).toBe(200);
    // Closed after use, in each of the ways, and made again without a request.
    const used = upstream.openConnections.find(({ requests }) => requests.length > 0);
    if (round % 3 === 0) used?.close();
    else if (round % 3 === 1) used?.halfClose();
    else used?.reset();
    await warm(upstream);
    if (round % 3 === 0) await expectNoCopy(daemon);
  }
  // Closed before use: the next one is made a second later.
  const [unused] = upstream.openConnections.filter(({ requests }) => requests.length === 0);
  unused?.close();
  await expectNoCopy(daemon);
  await warm(upstream);
  await expectNoCopy(daemon);
  expect(upstream.requests.map((request) => request.values('authorization'))).toEqual(Array.from({ length: rounds }, () => [`Bearer ${daemon.key}`]));
});

/** Resolves when there is a connection that no request asked for, handshake and all. */
async function warm(upstream: Upstream): Promise<void> {
  await upstream.until(() => upstream.openConnections.some(({ tls, requests }) => tls !== undefined && requests.length === 0), 'a warm connection');
}

async function expectNoCopy(daemon: Daemon): Promise<void> {
  expect((await scanMemory(daemon.pid, daemon.key)).found).toEqual([]);
}
