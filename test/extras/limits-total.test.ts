import { existsSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { linesOf, openLog, record } from '../support/audit.ts';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, asking, startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

const dayMs = 86_400_000;

let file: string;

beforeEach(() => {
  file = join(scratchFolder(), 'audit.log');
});

/** Each answer costs 100 tokens. */
async function start(tokensTotal: number): Promise<Proxied> {
  const both = await startBoth({ args: ['--audit-log', file, ...policyArgs({ limits: { tokens_total: tokensTotal } })] });
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":100}}'));
  return both;
}

async function statuses({ daemon }: Proxied, count: number): Promise<number[]> {
  const all: number[] = [];
  while (all.length < count) all.push((await ask(daemon.port)).status);
  return all;
}

/** As logrotate does it; resolves once the daemon writes to the new file. */
async function rotate({ daemon }: Proxied, to: string): Promise<void> {
  renameSync(file, to);
  daemon.signal('SIGUSR2');
  await expect.poll(() => { try { return linesOf(file).length; } catch { return 0; } }).toBeGreaterThan(0);
}

test('it counts since the log began, through restarts and rotations', async () => {
  const first = await start(500);
  expect(await statuses(first, 2)).toEqual([200, 200]);
  await rotate(first, `${file}.1`);
  expect(linesOf(file)).toMatchObject([{ kind: 'begin', tokens: 200 }]);
  expect(await statuses(first, 1)).toEqual([200]);
  await first.daemon.stop();

  const second = await start(500);
  await second.daemon.waitForStderr(/^responses-api-proxy: 300 of 500 tokens are used$/m);
  expect(await statuses(second, 1)).toEqual([200]);
  await rotate(second, `${file}.2`);
  rmSync(`${file}.1`);
  rmSync(`${file}.2`);
  second.daemon.signal('SIGKILL');
  await second.daemon.waitForExit();

  const third = await start(500);
  expect(await statuses(third, 2)).toEqual([200, 400]);
  const refused = await ask(third.daemon.port);
  expect(envelopeOf(refused)).toMatchObject({ code: 'limit_reached', message: 'The policy (tokens_total) allows 500 in all, and they are used up.' });
});

test('it counts the records of earlier days', async () => {
  const log = openLog(file);
  log.admit({ id: 'a', uid: undefined, model: undefined, serviceTier: undefined, reasoningMode: undefined, time: 0, estimate: 1 });
  log.append(record({ id: 'a', time: Date.now() - 400 * dayMs, charged: 900 }));
  log.close();
  expect(await statuses(await start(1000), 2)).toEqual([200, 400]);
});

test('a record that waited for the new file counts once', async () => {
  const both = await start(300);
  expect(await statuses(both, 1)).toEqual([200]);
  both.startOver();
  const { client, request } = await asking(both);
  unlinkSync(file);
  await request.reply(answer(200, '{"usage":{"total_tokens":100}}'));
  expect((await client.response()).status).toBe(200); // its record waits
  both.daemon.signal('SIGUSR2');
  await expect.poll(() => existsSync(file) && linesOf(file).length).toBe(3);
  expect(linesOf(file)).toMatchObject([{ kind: 'begin', tokens: 100, open: 1 }, { kind: 'admitted', carried: true }, { kind: 'request', usage: { total: 100 }, charged: 100 }]);
});

test('without a log it counts for the life of the daemon', async () => {
  const both = await startBoth({ args: policyArgs({ limits: { tokens_total: 100 } }) });
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":100}}'));
  expect(await statuses(both, 2)).toEqual([200, 400]);
});
