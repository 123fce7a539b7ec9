import { type PastExchange, estimateTokens } from '../policy/limits.ts';
import { newestFirst } from './audit-list.ts';
import { type ReadRecord, amount, tokensOf } from './audit-reading.ts';

/**
 * The exchanges in an audit log that went up and ended after a time, newest first. It reads back from the end, and no
 * further than that time. What the files before this one were charged is one more, from before all days.
 *
 * @param sinceMs milliseconds of the Unix epoch; undefined for all
 * @param endpoint the target that is served; what was asked for beside it did not go up
 * @throws {Failure} when the file cannot be read
 */
export function* usesSince(path: string, sinceMs: number | undefined, endpoint: string): Generator<PastExchange, void, undefined> {
  const since = sinceMs === undefined ? undefined : new Date(sinceMs).toISOString();
  for (const record of newestFirst(path, { limit: Infinity, since })) {
    const use = useOf(record, endpoint);
    if (use !== undefined) yield use;
  }
}

/** What the exchange of a record was charged. @param text of the record, without its hashes */
export function tokensIn(text: string, endpoint: string): number {
  return useOf(JSON.parse(text) as ReadRecord, endpoint)?.tokens ?? 0;
}

/** Undefined for what did not go up, or is no request. */
function useOf(record: ReadRecord, endpoint: string): PastExchange | undefined {
  // The first record of a file says what the files before it were charged.
  if (record['kind'] !== 'request') return { startedAtMs: -Infinity, endedAtMs: -Infinity, tokens: amount(record['tokens']) };
  const endedAtMs = Date.parse(record.time);
  const bytesUp = amount(record['bytes_up']);
  if (record['decision'] === 'refused' || record['target'] !== endpoint || bytesUp === 0 || Number.isNaN(endedAtMs)) return undefined;
  const durationMs = amount(record['total_ms']);
  const usage = tokensOf(record);
  const upstreamStatus = record['ended'] === 'upstream_failed' || record['status'] === undefined ? undefined : amount(record['status']);
  const tokens = usage === undefined
    ? estimateTokens({ bytesUp, bytesDown: amount(record['bytes_down']), durationMs, upstreamStatus })
    : amount(usage['total'] ?? amount(usage['input']) + amount(usage['output']));
  return { startedAtMs: endedAtMs - durationMs, endedAtMs, tokens };
}
