import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { startDaemon } from '../support/daemon.ts';
import { eventually, isConnecting } from '../support/process-facts.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { listenSilently } from '../support/silent-listener.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

test('an upstream that takes a second to answer is reached, though its name has an address to which no route leads', async (context) => {
  needs(context, 'root', 'command unshare', 'command mount');
  const upstream = await startUpstream({ tls: 'wrongHost', answer: answer(200, 'far away') });
  const relay = await listenSilently(upstream.port);
  const hosts = join(scratchFolder(), 'hosts');
  writeFileSync(hosts, '127.0.0.1 elsewhere.example\n2001:db8::1 elsewhere.example\n');
  const daemon = await startDaemon({
    args: ['--upstream-url', `https://elsewhere.example:${relay.port}/v1/responses`, '--upstream-ca', caFile()],
    prefix: ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', `mount --bind '${hosts}' /etc/hosts && exec "$@"`, 'sh'],
  });
  const asked = ask(daemon.port);
  await eventually(() => isConnecting(relay.port), () => 'an attempt');
  relay.answer(); // to the second SYN, which the kernel sends after a second
  expect((await asked).text()).toBe('far away');
});
