import { describe, expect, test } from 'vitest';
import { besiege, longestKey, scansUnderLoad, startHeaderStringProxy, type Siege } from '../support/custody-load.ts';
import { credentialHeaders } from '../support/credentials.ts';
import { randomKey } from '../support/daemon.ts';
import { startLoadUpstream } from '../support/load.ts';
import { needs } from '../support/skip.ts';

// About 28 exchanges of each kind: a key in a header string leaves dozens of copies after 20. test/long/custody-load has every way to
// send it by itself, for longer, and on other versions of Node.
const requests = 250;

const sieges: Record<string, Siege> = {
  'over kept and fresh connections': { load: { requests }, upstream: { freshShare: 0.3 } },
  'in the clear, in the header that Azure wants, with a key of 8 KiB, heads of 60 KiB and accounts': {
    load: { requests, headBytes: 58_000 }, upstream: { cleartext: true, freshShare: 0.3 }, daemon: { key: longestKey() },
    credential: credentialHeaders['api-key, as Azure wants it'], policy: { max_body_bytes: 1_000_000, limits: { concurrent: 1000 } },
  },
};

describe('root finds no copy of the key, nor of any 16 bytes of it, during and after load', () => {
  test.for(Object.entries(sieges))('%s', async ([, siege], context) => {
    needs(context, 'root', 'command cc');
    const { scans } = await besiege(siege);
    expect(scans.length).toBeGreaterThan(1);
    for (const scan of scans) {
      expect(scan.bytesRead).toBeGreaterThan(20_000_000);
      expect(scan.found).toEqual([]);
    }
  });
});

test('the same look finds it in a proxy that sends the key as a header string', async (context) => {
  needs(context, 'root', 'command cc');
  const upstream = await startLoadUpstream();
  const key = randomKey();
  const { pid, port } = await startHeaderStringProxy(upstream.port, key);
  const scans = await scansUnderLoad(pid, port, key, { requests, plays: ['json', 'stream', 'unauthorized'] }, 2);
  for (const { found } of scans) expect(found.filter(({ whole }) => whole).length).toBeGreaterThan(5);
});
