import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { besiege, longestKey, scansUnderLoad, startHeaderStringProxy, type Siege } from '../support/custody-load.ts';
import { credentialHeaders } from '../support/credentials.ts';
import { randomKey, startDaemon } from '../support/daemon.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { runLoad, startLoadUpstream } from '../support/load.ts';
import { outsideLockedMemory, scanMemory } from '../support/memory.ts';
import { nodeOfVersion } from '../support/node-versions.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs, skipUnless } from '../support/skip.ts';

/** Sizes a run of CI can afford; `CUSTODY_REQUESTS=6000` makes a long one. */
const requests = Number(process.env['CUSTODY_REQUESTS'] ?? 500);
const scans = 4;
const fresh = { freshShare: 1 } as const;
const tls12 = { maxVersion: 'TLSv1.2' } as const;
const azure = { credential: credentialHeaders['api-key, as Azure wants it'] } as const;

function accounts(): readonly string[] {
  const folder = scratchFolder();
  writeFileSync(join(folder, 'policy.json'), '{"max_body_bytes":1000000}', { mode: 0o600 });
  return ['--audit-log', join(folder, 'audit.log'), '--policy', join(folder, 'policy.json')];
}

const sieges: Record<string, Siege> = {
  'over kept connections': { scans, load: { requests } },
  'over fresh connections': { scans, load: { requests }, upstream: fresh },
  'over fresh connections, 100 at once, small bodies alone': { scans, load: { requests, atOnce: 100, plays: ['pipelined', 'unauthorized'] }, upstream: fresh },
  'over kept connections of TLS 1.2': { scans, load: { requests }, upstream: { secureContext: tls12 } },
  'over fresh connections of TLS 1.2': { scans, load: { requests }, upstream: { ...fresh, secureContext: tls12 } },
  'in the clear, over kept connections': { scans, load: { requests }, upstream: { cleartext: true } },
  'in the clear, over fresh connections': { scans, load: { requests }, upstream: { ...fresh, cleartext: true } },
  'through a corporate proxy, over kept connections': { scans, load: { requests }, throughProxy: true },
  'through a corporate proxy, over fresh connections': { scans, load: { requests }, throughProxy: true, upstream: fresh },
  'with accounts, over kept connections': { scans, load: { requests }, policy: { max_body_bytes: 1_000_000, limits: { concurrent: 1000 } } },
  'with accounts in shadow mode, over fresh connections': { scans, load: { requests }, upstream: fresh, policy: { mode: 'shadow', models: ['gpt-*'], limits: { concurrent: 1 } } },
  'with a key of 8 KiB and heads of 60 KiB': { scans, load: { requests, headBytes: 58_000 }, daemon: { key: longestKey() } },
  'with a key of 8 KiB and heads of 60 KiB, over fresh connections': { scans, load: { requests, headBytes: 58_000 }, upstream: fresh, daemon: { key: longestKey() } },
  'in the header that Azure wants, over kept connections': { scans, load: { requests }, ...azure },
  'in the header that Azure wants, over fresh connections': { scans, load: { requests }, upstream: fresh, ...azure },
  'in the header that Azure wants, in the clear, with a key of 8 KiB and heads of 60 KiB': { scans, load: { requests, headBytes: 58_000 }, upstream: { cleartext: true, freshShare: 0.3 }, daemon: { key: longestKey() }, ...azure },
  'in the header that Azure wants, audited and under a policy that reads bodies whole': { scans, load: { requests }, upstream: { freshShare: 0.3 }, daemon: { args: accounts() }, ...azure },
  'with 256 at once': { scans, load: { requests, atOnce: 256 }, upstream: { freshShare: 0.3 } },
};

/** The two that write in different ways; what `npm test` has of this runs under every version. `NODES=22,24` chooses others. */
const nodes = (process.env['NODES'] ?? '20,26').split(',').map(Number);

describe.for(nodes)('on Node %i', (major) => {
  let node: Awaited<ReturnType<typeof nodeOfVersion>>;

  beforeAll(async () => {
    node = await nodeOfVersion(major);
  }, 150_000);

  describe('root finds no copy of the key, nor of any 16 bytes of it, during and after load', () => {
    test.for(Object.entries(sieges))('%s', async ([, siege], context) => {
      needs(context, 'root', 'command cc');
      skipUnless(context, 'path' in node, 'missing' in node ? node.missing : '');
      const { scans: seen } = await besiege({ ...siege, daemon: { ...siege.daemon, ...('path' in node ? { node: node.path } : {}) } });
      expect(seen.length).toBeGreaterThan(1);
      for (const { found } of seen) expect(found).toEqual([]);
    });

    test.for(Object.entries(credentialHeaders))('without memfd_secret: none outside of the locked area, sent as %s', async ([, credential], context) => {
      needs(context, 'root', 'command cc');
      skipUnless(context, 'path' in node, 'missing' in node ? node.missing : '');
      const options = { prefix: await denying(noMemfdSecret), ...('path' in node ? { node: node.path } : {}) };
      const { daemon, scans: seen } = await besiege({ scans, load: { requests }, upstream: { freshShare: 0.3 }, daemon: options, credential });
      for (const { found } of seen) expect(outsideLockedMemory(daemon.pid, found)).toEqual([]);
    });

    test('nor hours later, as far as a thousand requests of another kind can stand for them', async (context) => {
      needs(context, 'root', 'command cc');
      skipUnless(context, 'path' in node, 'missing' in node ? node.missing : '');
      const upstream = await startLoadUpstream({ freshShare: 0.5 });
      const daemon = await startDaemon({ args: upstream.args, ...('path' in node ? { node: node.path } : {}) });
      for (let round = 0; round < 5; round++) {
        await runLoad(daemon.port, { requests: 1_000 });
        expect((await scanMemory(daemon.pid, daemon.key, { standing: false })).found).toEqual([]);
      }
    });
  });
});

test('the same look finds it in a proxy that sends the key as a header string', async (context) => {
  needs(context, 'root', 'command cc');
  const upstream = await startLoadUpstream();
  const key = randomKey();
  const { pid, port } = await startHeaderStringProxy(upstream.port, key);
  const seen = await scansUnderLoad(pid, port, key, { requests, plays: ['json', 'stream', 'unauthorized'] }, scans);
  for (const { found } of seen) expect(found.filter(({ whole }) => whole).length).toBeGreaterThan(5);
});
