import { test } from 'vitest';
import { renewUnderLoad } from '../support/renewals.ts';
import { needs } from '../support/skip.ts';

// test/long has the same in every way to send a key, for longer, and on other versions of Node.

test('50 renewals under load: no request fails, each carries one whole key, root finds none of them', async (context) => {
  needs(context, 'root', 'command cc');
  await renewUnderLoad({ upstream: { freshShare: 0.3 }, renewals: 50, scans: 3 });
});
