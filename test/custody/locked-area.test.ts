import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { lockedAreasOf } from '../support/process.ts';
import { needs } from '../support/skip.ts';

test.for([['memfd_secret', []], ['mlock', [noMemfdSecret]]] as const)('the memory of the key (%s) is locked, and in no core dump and no forked child', async ([kind, rules], context) => {
  needs(context, 'root', 'command cc');
  const daemon = await startDaemon({ prefix: rules.length === 0 ? [] : await denying(...rules) });
  expect(daemon.stderr).toContain(`key in ${kind}`);
  const areas = lockedAreasOf(daemon.pid);
  expect(areas).toHaveLength(1);
  for (const { flags } of areas) expect(flags).toEqual(expect.arrayContaining(['lo', 'dd', 'dc']));
});
