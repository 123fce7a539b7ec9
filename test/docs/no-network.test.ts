import { join } from 'node:path';
import { expect, test } from 'vitest';
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

/** Asks the model as soon as something listens, then what else there is, and prints what it is told. */
const agent = (port: number, elsewhere: readonly string[]): string => `#!/usr/bin/env node
const asked = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"model":"gpt-5","input":"Say hello"}' };
const told = (url) => fetch(url, asked).then(async (answer) => answer.status + ' ' + (await answer.json()).status, ({ cause }) => cause.code);
let model;
do model = await told('http://127.0.0.1:${port}/v1/responses'); while (model === 'ECONNREFUSED');
console.log([model, ...await Promise.all(${JSON.stringify(elsewhere)}.map(told))].join('\\n'));
console.log('done');
`;

test('an agent without a network reaches the model, and nothing else', async (context) => {
  needsNetworkNamespaces(context);
  needs(context, 'command socat', 'command ip');
  const machine = await newMachine();
  const port = await freePort();
  const instead = { 8787: String(port) };
  await machine.start(snippetIn('README.md', '--server-info "$INFO"'), { instead }).waitForStderr(/^responses-api-proxy listening on /m);
  machine.install('docker', dockerStandIn);
  machine.install('your-agent', agent(port, [`http://127.0.0.1:${machine.standIn.port}/`, 'http://192.0.2.1/', 'http://[2001:db8::1]/']));
  // Twice: what the first run leaves behind is in nobody's way.
  for (const _run of [1, 2]) {
    const running = machine.start(recipe, { instead, env: { DIR: join(machine.folder, 'model') } });
    await expect.poll(() => running.stdout, { message: running.stderr }).toContain('done');
    expect(running.stdout).toBe('200 completed\nECONNREFUSED\nENETUNREACH\nENETUNREACH\ndone\n');
  }
  expect(machine.standIn.requests.map(({ headers }) => headers.authorization)).toEqual(Array(2).fill(`Bearer ${machine.key}`));
});
