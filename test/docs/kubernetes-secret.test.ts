import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';

test('the secret has the name and the item that the pod asks for', async () => {
  const pod = readFileSync(join(checkout, 'scripts/systemd/pod.yaml'), 'utf8');
  const [, secret, item] = /secretName: (\S+)\n +items: \[\{ key: ([^,]+),/.exec(pod) ?? [];
  const machine = await newMachine();
  machine.install('kubectl', '#!/bin/sh\necho "$*"\ncat "${6#*=}"\n');
  const { code, stdout } = await machine.run(snippetIn('scripts/systemd/README.md', 'kubectl create secret'));
  expect({ code, stdout }).toEqual({ code: 0, stdout: `create secret generic ${secret} --from-file ${item}=/dev/stdin\n${machine.key}\n` });
});
