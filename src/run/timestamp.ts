/**
 * Reads a point in time by RFC 3339 (section 5.6), such as `2026-01-31T18:00:00Z` or `2026-01-31T18:00:00.5+01:00`. The
 * fraction counts to the millisecond. A leap second (:60) is refused, like all that the calendar does not have.
 *
 * @returns milliseconds of the Unix epoch; undefined for anything else
 */
export function parseTimestamp(text: string): number | undefined {
  const [, day, clock, fraction = '', zone = ''] = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/.exec(text) ?? [];
  if (day === undefined || clock === undefined) return undefined;
  const utcMs = Date.parse(`${day}T${clock}Z`);
  // Date takes 31 February for 3 March, and 24:00:00 for the next day.
  if (Number.isNaN(utcMs) || new Date(utcMs).toISOString().slice(0, 19) !== `${day}T${clock}`) return undefined;
  return utcMs + Math.floor(Number(`0${fraction}`) * 1000) - offsetMs(zone);
}

function offsetMs(zone: string): number {
  if (/^z$/i.test(zone)) return 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4, 6));
  return (zone.startsWith('-') ? -minutes : minutes) * 60_000;
}
