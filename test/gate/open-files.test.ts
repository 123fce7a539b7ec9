import { expect, test } from 'vitest';
import { shell, startDaemon, type Daemon } from '../support/daemon.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, type UpstreamRequest } from '../support/upstream.ts';

const lowered = /^responses-api-proxy: at most (\d+) connections at once: only (\d+) files can be open \(RLIMIT_NOFILE\)\nhint: .*LimitNOFILE=/m;

/** The limit that a daemon announced. */
function limitOf(daemon: Daemon): number {
  return Number(lowered.exec(daemon.stderr)?.[1]);
}

test.for([64, 1024])('with %i files, the connections that fit are said at start', async (files) => {
  const daemon = await startDaemon({ prefix: shell(`ulimit -n ${files}`) });
  expect(lowered.exec(daemon.stderr)?.[2]).toBe(String(files));
  expect(limitOf(daemon)).toBeGreaterThan(files / 2 - 32);
  expect(limitOf(daemon)).toBeLessThan(files / 2);
});

test('nothing is said where the soft limit alone was too low', async () => {
  expect((await startDaemon({ prefix: shell('ulimit -Sn 64') })).stderr).not.toContain('RLIMIT_NOFILE');
});

test('the limit that was raised is the hint', async () => {
  const { stderr } = await startDaemon({ prefix: shell('ulimit -n 64') });
  const [, enough] = /^hint: raise the limit to (\d+)/m.exec(stderr) ?? [];
  expect((await startDaemon({ prefix: shell(`ulimit -n ${enough}`) })).stderr).not.toContain('RLIMIT_NOFILE');
});

test('idle clients beyond it make room for requests', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args, prefix: shell('ulimit -n 64') });
  for (let count = 0; count < 100; count++) await connect(daemon.port);
  for (let count = 0; count < 20; count++) expect((await ask(daemon.port)).status).toBe(200);
  expect(daemon.stderr).not.toMatch(/undefined|EMFILE/);
});

test('with as many running as fit, more are turned away, and each that runs has its upstream', async () => {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args, prefix: shell('ulimit -n 64') });
  const limit = limitOf(daemon);
  const running = await Promise.all(Array.from({ length: limit }, () => connect(daemon.port)));
  for (const client of running) await client.send(rawRequest(daemon.port));
  const requests: UpstreamRequest[] = [];
  while (requests.length < limit) requests.push(await upstream.nextRequest());

  const surplus = await Promise.all(Array.from({ length: 100 }, () => connect(daemon.port)));
  await Promise.all(surplus.map((client) => client.waitForClose()));

  for (const request of requests) await request.reply(answer(200, '{}'));
  for (const client of running) expect((await client.response()).status).toBe(200);
  expect(daemon.stderr).not.toMatch(/undefined|EMFILE|upstream_/);
});
