import { test } from 'vitest';
import { renewUnderLoad } from '../support/renewals.ts';
import { needs } from '../support/skip.ts';

// test/long has the same for longer, and on other versions of Node.

test.for([
  ['over kept connections', {}],
  ['over fresh connections', { freshShare: 1 }],
  ['in the clear, over kept and fresh connections', { cleartext: true, freshShare: 0.3 }],
] as const)('50 renewals under load: no request fails, each carries one whole key, root finds none of them: %s', async ([, upstream], context) => {
  needs(context, 'root', 'command cc');
  await renewUnderLoad({ upstream, renewals: 50, scans: 3 });
});
