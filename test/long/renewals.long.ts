import { beforeAll, describe, test } from 'vitest';
import { nodeOfVersion } from '../support/node-versions.ts';
import { renewUnderLoad } from '../support/renewals.ts';
import { needs, skipUnless } from '../support/skip.ts';

/** All that are served: node's `onread` is what keeps the next key out of ordinary memory. `NODES=22` chooses others. */
const nodes = (process.env['NODES'] ?? '20,22,24,26').split(',').map(Number);

const sieges = {
  'over kept connections': {},
  'over fresh connections': { freshShare: 1 },
  'in the clear, over kept and fresh connections': { cleartext: true, freshShare: 0.3 },
} as const;

describe.for(nodes)('on Node %i', (major) => {
  let node: Awaited<ReturnType<typeof nodeOfVersion>>;

  beforeAll(async () => {
    node = await nodeOfVersion(major);
  }, 150_000);

  test.for(Object.entries(sieges))('50 renewals under load: no request fails, each carries one whole key, root finds none of them: %s', async ([, upstream], context) => {
    needs(context, 'root', 'command cc');
    skipUnless(context, 'path' in node, 'missing' in node ? node.missing : '');
    await renewUnderLoad({ upstream, renewals: 50, scans: 5, daemon: 'path' in node ? { node: node.path } : {} });
  });
});
