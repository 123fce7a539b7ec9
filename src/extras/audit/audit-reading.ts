import type { FileLine } from './audit-lines.ts';
import { quote } from '../../run/log.ts';

/** A line of an audit log as read. A line may hold anything: other programs may have written to the file. */
export type ReadRecord = Readonly<Record<string, unknown>> & { readonly time: string };

/** The record in a line; undefined where there is none. One that lacks but its newline is torn, however whole it looks. */
export function read({ bytes, isEnded }: FileLine): ReadRecord | undefined {
  if (!isEnded) return undefined;
  try {
    const record = JSON.parse(bytes.toString('latin1')) as Partial<ReadRecord> | null;
    return typeof record?.time === 'string' ? (record as ReadRecord) : undefined;
  } catch {
    return undefined; // not JSON
  }
}

/** A member as text in printable ASCII, '' where it is missing. */
export function text(value: unknown): string {
  if (typeof value === 'string') return /^[\x20-\x7e]*$/.test(value) ? value : quote(value);
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

/** A member as a number, 0 where it is none. */
export function amount(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 0;
}

/** A record's tokens by kind; undefined where it has none. */
export function tokensOf({ usage }: ReadRecord): Readonly<Record<string, unknown>> | undefined {
  return typeof usage === 'object' && usage !== null ? (usage as Readonly<Record<string, unknown>>) : undefined;
}
