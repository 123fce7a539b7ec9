import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loneAgent, toldAlone } from '../support/lone-agent.ts';
import { needsNetworkNamespaces } from '../support/network-namespace.ts';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';
import { freePort } from '../support/upstream.ts';

const recipe = snippetIn('scripts/systemd/README.md', '--network none');

/** `docker run --rm --network none --volume FROM:TO IMAGE COMMAND...`, as far as it can be done without one. */
const dockerStandIn = `#!/bin/sh
set -eu
test "$1 $2 $3 $4 $5" = 'run --rm --network none --volume'
from=\${6%%:*} to=\${6#*:}
shift 7
exec unshare --net --mount sh -c '
  ip link set lo up
  mount -t tmpfs tmpfs /run
  mkdir -p "$2"
  mount --bind "$1" "$2"
  shift 2
  exec "$@"
' sh "$from" "$to" "$@"
`;

test('an agent without a network reaches the model, and nothing else', async (context) => {
  needsNetworkNamespaces(context);
  needs(context, 'command socat', 'command ip');
  const machine = await newMachine();
  const port = await freePort();
  const instead = { 8787: String(port) };
  await machine.start(snippetIn('README.md', '--server-info "$INFO"'), { instead }).waitForStderr(/^responses-api-proxy listening on /m);
  machine.install('docker', dockerStandIn);
  machine.install('your-agent', loneAgent(port, machine.standIn.port));
  // Twice: what the first run leaves behind is in nobody's way.
  for (const _run of [1, 2]) {
    const running = machine.start(recipe, { instead, env: { DIR: join(machine.folder, 'model') } });
    await expect.poll(() => running.stdout, { message: running.stderr }).toContain(toldAlone);
  }
  expect(machine.standIn.requests.map(({ headers }) => headers.authorization)).toEqual(Array(2).fill(`Bearer ${machine.key}`));
});
