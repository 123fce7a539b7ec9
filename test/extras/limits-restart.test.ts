import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { AuditRecord } from '../../src/extras/audit/audit-record.ts';
import { linesOf, openLog, record } from '../support/audit.ts';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, asking, startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

const dayMs = 86_400_000;

/** What an earlier run admitted, and what that was charged. */
interface Use extends Partial<AuditRecord> {
  readonly startedAt?: number;
}

/** A daemon that finds these records of an earlier run, oldest first. */
async function startAfter(uses: readonly Use[], limits: object): Promise<Proxied> {
  const file = join(scratchFolder(), 'audit.log');
  const log = openLog(file);
  for (const [index, { startedAt, ...given }] of uses.entries()) {
    const done = record({ id: index.toString(16).padStart(16, '0'), ...given });
    if (done.charged !== undefined) log.admit({ id: done.id, uid: undefined, model: undefined, serviceTier: undefined, reasoningMode: undefined, time: startedAt ?? done.time, estimate: 1 });
    log.append(done);
  }
  log.close();
  const both = await startBoth({ args: ['--audit-log', file, ...policyArgs({ limits })] });
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":100}}'));
  return both;
}

/** Begins again where a UTC day began meanwhile. */
async function withinOneDay(act: (now: number) => Promise<void>): Promise<void> {
  for (;;) {
    const now = Date.now();
    try {
      return await act(now);
    } catch (error) {
      if (Math.floor(now / dayMs) === Math.floor(Date.now() / dayMs)) throw error;
    }
  }
}

test('the tokens of this UTC day count, whatever stands between them', () => withinOneDay(async (now) => {
  const both = await startAfter([
    { time: now - (now % dayMs) - 1, charged: 1_000_000 }, // yesterday's last
    { time: now, usage: undefined, decision: 'refused', ended: 'refused', rule: 'models', status: 403 },
    { time: now, target: '/health' },
    { time: now, charged: 0, status: 500 },
    { time: now, charged: 300, target: '/v1/elsewhere' },
    { time: now - 400 * dayMs, charged: 7 }, // by a clock that was wrong for a while
    { time: now, charged: 500, decision: 'would_refuse', rule: 'models' },
  ], { tokens_per_day: 850 });
  expect((await ask(both.daemon.port)).status).toBe(200); // 800 of 850, and 100 more
  const refused = await ask(both.daemon.port);
  expect(envelopeOf(refused)).toMatchObject({ code: 'limit_reached', message: expect.stringContaining('(tokens_per_day)') });
}));

test('the tokens of this UTC day survive a rotation', () => withinOneDay(async (now) => {
  const file = join(scratchFolder(), 'audit.log');
  const log = openLog(file);
  log.admit({ id: 'a', uid: undefined, model: undefined, serviceTier: undefined, reasoningMode: undefined, time: now, estimate: 1 });
  log.append(record({ id: 'a', time: now, charged: 1000 }));
  renameSync(file, `${file}.1`);
  log.reopen();
  log.close();
  const args = ['--audit-log', file, ...policyArgs({ limits: { tokens_per_day: 1000 } })];
  expect((await ask((await startBoth({ args })).daemon.port)).status).toBe(400);
}));

test('the requests of the last minute count, from when they began', async () => {
  const now = Date.now();
  const both = await startAfter([
    { time: now - 30_000, startedAt: now - 61_000, charged: 1 },
    { time: now, startedAt: now - 1_000, charged: 1 },
    { time: now - 1_000, decision: 'refused', ended: 'refused', rule: 'models', status: 403 },
  ], { requests_per_minute: 2 });
  expect((await ask(both.daemon.port)).status).toBe(200);
  const refused = await ask(both.daemon.port);
  expect(refused.status).toBe(429);
  expect(Number(refused.values('retry-after')[0])).toBeLessThan(60); // the earlier one's place, which is free first
});

test('what ran when the daemon was stopped is charged an estimate', async () => {
  const file = join(scratchFolder(), 'audit.log');
  const limits = policyArgs({ limits: { tokens_total: 1000 } });
  const first = await startBoth({ args: ['--audit-log', file, '--shutdown-timeout', '0.1', ...limits] });
  await asking(first, { body: 'x'.repeat(8_000) });
  expect((await first.daemon.stop()).code).toBe(0);
  expect(linesOf(file).filter(({ ended }) => ended === 'stopped')).toHaveLength(1);
  const second = await startBoth({ args: ['--audit-log', file, ...limits] });
  second.upstream.answerWith(answer(200, '{}'));
  expect((await ask(second.daemon.port)).status).toBe(400);
});
