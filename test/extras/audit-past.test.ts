import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AuditLog } from '../../src/extras/audit/audit-log.ts';
import { usesSince } from '../../src/extras/audit/audit-past.ts';
import { estimateTokens } from '../../src/extras/policy/limits.ts';
import { totalOf } from '../../src/extras/usage/usage.ts';
import { endpoint, logOptions, record } from '../support/audit.ts';
import { scratchFolder } from '../support/scratch.ts';

const midnight = Date.UTC(2026, 0, 31);

test('what an earlier run used is read back from the log: only what went up, only since then', () => {
  const file = join(scratchFolder(), 'audit.log');
  const log = new AuditLog(logOptions(file));
  const usage = { input: 7, cached: undefined, output: 3, reasoning: undefined, total: undefined };
  for (const given of [
    { time: midnight - 1, bytesUp: 1 },
    { time: midnight, bytesUp: 2, totalMs: 1000 },
    { time: midnight + 1, bytesUp: 3, decision: 'refused' as const, ended: 'refused' as const },
    { time: midnight + 2, bytesUp: 4, target: '/health' },
    { time: midnight + 3, bytesUp: 5, decision: 'would_refuse' as const, usage },
    { time: midnight + 4, bytesUp: 6, ended: 'client_left' as const, usage: undefined },
  ]) log.append(record(given));
  log.close();
  expect([...usesSince(file, midnight, endpoint)]).toEqual([
    { startedAtMs: midnight + 4 - 2345.7, endedAtMs: midnight + 4, tokens: estimateTokens({ bytesUp: 6, bytesDown: 12_000, durationMs: 2345.7, upstreamStatus: 200 }) },
    { startedAtMs: midnight + 3 - 2345.7, endedAtMs: midnight + 3, tokens: 10 },
    { startedAtMs: midnight - 1000, endedAtMs: midnight, tokens: 1500 },
  ]);
  expect(totalOf(usage)).toBe(10);
  expect(totalOf({ ...usage, total: 11 })).toBe(11);
  expect(totalOf(undefined)).toBe(undefined);
});
