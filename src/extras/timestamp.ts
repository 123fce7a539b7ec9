import { usageFailure } from '../run/failure.ts';

/**
 * Reads a point in time by RFC 3339 (section 5.6), the value of `--expire-at`: `2026-01-31T18:00:00Z` or `2026-01-31T18:00:00.5+01:00`.
 * The fraction counts to the millisecond. A leap second (:60) is refused, like all that the calendar does not have.
 *
 * @returns milliseconds of the Unix epoch
 * @throws {Failure} with exit code 2
 */
export function parseTimestamp(text: string): number {
  const [, day, clock, fraction = '', zone = ''] = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/.exec(text) ?? [];
  const utcMs = Date.parse(`${day}T${clock}Z`);
  // Date takes 31 February for 3 March, and 24:00:00 for the next day.
  if (Number.isNaN(utcMs) || new Date(utcMs).toISOString().slice(0, 19) !== `${day}T${clock}`) throw usageFailure('--expire-at takes a time such as 2026-01-31T18:00:00Z');
  const [sign, hours, minutes] = [zone.slice(0, 1), Number(zone.slice(1, 3)), Number(zone.slice(4, 6))];
  const offsetMs = /z/i.test(sign) ? 0 : (hours * 60 + minutes) * (sign === '-' ? -60_000 : 60_000);
  return utcMs + Math.floor(Number(`0${fraction}`) * 1000) - offsetMs;
}
