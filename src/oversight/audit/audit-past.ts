import { newestFirst } from './audit-list.ts';
import { amount, tokensOf } from './audit-reading.ts';

/** An exchange of an earlier run, as far as limits need it. Times in milliseconds of the Unix epoch. */
export interface PastUse {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** As the upstream reported; undefined where it did not. */
  readonly totalTokens: number | undefined;
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly durationMs: number;
  /** Undefined where the upstream did not answer. */
  readonly upstreamStatus: number | undefined;
}

/**
 * The exchanges in an audit log that went up and ended after a time, newest first. It reads back from the end, and no
 * further than that time.
 *
 * @param endpoint the target that is served; what was asked for beside it did not go up
 * @throws {Failure} when the file cannot be read
 */
export function* usesSince(path: string, sinceMs: number, endpoint: string): Generator<PastUse, void, undefined> {
  const since = new Date(sinceMs).toISOString();
  for (const record of newestFirst(path, { limit: Infinity, since }, { lines: 0 })) {
    const endedAtMs = Date.parse(record.time);
    if (record['kind'] !== 'request' || record['decision'] === 'refused' || record['target'] !== endpoint || amount(record['bytes_up']) === 0 || Number.isNaN(endedAtMs)) continue;
    const durationMs = amount(record['total_ms']);
    const tokens = tokensOf(record);
    yield {
      startedAtMs: endedAtMs - durationMs,
      endedAtMs,
      totalTokens: tokens === undefined ? undefined : amount(tokens['total'] ?? amount(tokens['input']) + amount(tokens['output'])),
      bytesUp: amount(record['bytes_up']),
      bytesDown: amount(record['bytes_down']),
      durationMs,
      upstreamStatus: record['ended'] === 'upstream_failed' || record['status'] === undefined ? undefined : amount(record['status']),
    };
  }
}
