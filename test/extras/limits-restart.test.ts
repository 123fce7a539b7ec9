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

const usage = (total: number): AuditRecord['usage'] => ({ input: total, cached: undefined, output: undefined, reasoning: undefined, total });

/** A daemon that finds these records of an earlier run, oldest first. */
async function startAfter(records: ReadonlyArray<Partial<AuditRecord>>, limits: object): Promise<Proxied> {
  const file = join(scratchFolder(), 'audit.log');
  const log = openLog(file);
  for (const given of records) log.append(record({ totalMs: 1, ...given }));
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

test('the tokens of this UTC day count, of what went up', () => withinOneDay(async (now) => {
  const both = await startAfter([
    { time: now - (now % dayMs) - 1, usage: usage(1_000_000) }, // yesterday's last
    { time: now, usage: usage(1_000_000), decision: 'refused', ended: 'refused', rule: 'models', status: 403 },
    { time: now, usage: usage(1_000_000), target: '/health' },
    { time: now, usage: undefined, status: 500 },
    { time: now, usage: undefined, ended: 'upstream_failed', status: 502, bytesUp: 0 },
    { time: now, usage: usage(300) },
    { time: now, usage: usage(300), decision: 'would_refuse', rule: 'models' },
    { time: now, usage: undefined, ended: 'client_left', bytesUp: 100, bytesDown: 6400, totalMs: 10 }, // 100 + 100
  ], { tokens_per_day: 850 });
  expect((await ask(both.daemon.port)).status).toBe(200); // 800 of 850, and 100 more
  const refused = await ask(both.daemon.port);
  expect(envelopeOf(refused)).toMatchObject({ code: 'limit_reached', message: expect.stringContaining('(tokens_per_day)') });
}));

test('the requests of the last minute count, from when they began', async () => {
  const now = Date.now();
  const both = await startAfter([
    { time: now - 30_000, totalMs: 31_000 }, // began 61 s ago
    { time: now, totalMs: 1_000 },
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
