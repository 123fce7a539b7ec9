import { estimateTokens } from '../policy/limits.ts';
import { AuditFile } from './audit-file.ts';
import { newestFirst } from './audit-list.ts';
import { type ReadRecord, amount, read, tokensOf } from './audit-reading.ts';

/** An exchange of an earlier run, as far as limits need it. Times in milliseconds of the Unix epoch. */
export interface PastUse {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** What it was charged: as the upstream reported, or an estimate. */
  readonly tokens: number;
}

/**
 * The exchanges in an audit log that went up and ended after a time, newest first. It reads back from the end, and no
 * further than that time.
 *
 * @param sinceMs milliseconds of the Unix epoch; undefined for all
 * @param endpoint the target that is served; what was asked for beside it did not go up
 * @throws {Failure} when the file cannot be read
 */
export function* usesSince(path: string, sinceMs: number | undefined, endpoint: string): Generator<PastUse, void, undefined> {
  const since = sinceMs === undefined ? undefined : new Date(sinceMs).toISOString();
  for (const record of newestFirst(path, { limit: Infinity, since }, { lines: 0 })) {
    const use = useOf(record, endpoint);
    if (use !== undefined) yield use;
  }
}

/**
 * What the exchanges in the files before this one were charged, by its first record; 0 where that does not say.
 *
 * @throws {Failure} when the file cannot be read
 */
export function tokensBefore(path: string): number {
  const file = new AuditFile(path);
  try {
    for (const line of file.lines()) {
      const record = read(line, { lines: 0 });
      if (record !== undefined) return amount(record['tokens']);
    }
    return 0;
  } finally {
    file.close();
  }
}

/** What the exchange of a record was charged. @param text of the record, without its hashes */
export function tokensIn(text: string, endpoint: string): number {
  return useOf(JSON.parse(text) as ReadRecord, endpoint)?.tokens ?? 0;
}

/** Undefined for what did not go up, or is no request. */
function useOf(record: ReadRecord, endpoint: string): PastUse | undefined {
  const endedAtMs = Date.parse(record.time);
  const bytesUp = amount(record['bytes_up']);
  if (record['kind'] !== 'request' || record['decision'] === 'refused' || record['target'] !== endpoint || bytesUp === 0 || Number.isNaN(endedAtMs)) return undefined;
  const durationMs = amount(record['total_ms']);
  const usage = tokensOf(record);
  const upstreamStatus = record['ended'] === 'upstream_failed' || record['status'] === undefined ? undefined : amount(record['status']);
  const tokens = usage === undefined
    ? estimateTokens({ bytesUp, bytesDown: amount(record['bytes_down']), durationMs, upstreamStatus })
    : amount(usage['total'] ?? amount(usage['input']) + amount(usage['output']));
  return { startedAtMs: endedAtMs - durationMs, endedAtMs, tokens };
}
