import { AuditFile } from './audit-file.ts';
import { type ReadRecord, type Unreadable, amount, read, text, tokensOf } from './audit-reading.ts';

/** Most models, days or users that are told apart; clients choose what they call a model. What comes after is `others`. */
const maxGroups = 10_000;

const tokenKinds = ['input', 'cached', 'output', 'reasoning', 'total'] as const;

/** What a group of requests amounts to. */
export interface Totals {
  requests: number;
  refused: number;
  /** Requests that went up, and whose answers did not say what they cost. */
  unknown: number;
  input: number;
  cached: number;
  output: number;
  reasoning: number;
  total: number;
}

type Grouping = 'model' | 'day' | 'user';

/** Totals by each group's name, and of all. What is not known is called `-`. */
export type Summary = Readonly<Record<Grouping, ReadonlyMap<string, Totals>>> & { readonly all: Totals };

/**
 * Sums a file up. Memory is bounded, however long it is.
 *
 * @param since none before this time, in the form that records have; undefined for all
 */
export function summarise(path: string, since: string | undefined, unreadable: Unreadable): Summary {
  const summary = { model: new Map<string, Totals>(), day: new Map<string, Totals>(), user: new Map<string, Totals>(), all: nothing() };
  const file = new AuditFile(path);
  try {
    for (const line of file.lines()) {
      const record = read(line, unreadable);
      if (record?.['kind'] !== 'request' || (since !== undefined && record.time < since)) continue;
      add(summary.all, record);
      add(totalsOf(summary.model, text(record['model'])), record);
      add(totalsOf(summary.day, text(record.time.slice(0, 10))), record);
      add(totalsOf(summary.user, text(record['uid'])), record);
    }
  } finally {
    file.close();
  }
  return summary;
}

/** As tables for people. */
export function summaryTables({ model, day, user, all }: Summary): string {
  const tables = [
    table('MODEL', [...model].sort(([, a], [, b]) => b.total - a.total || b.requests - a.requests)),
    table('DAY', [...day].sort(([a], [b]) => (a < b ? 1 : -1))),
    table('USER', [...user].sort(([, a], [, b]) => b.total - a.total || b.requests - a.requests)),
    table('', [['all', all]]),
  ];
  return tables.join('\n\n');
}

/** As JSON lines. */
export function summaryLines({ model, day, user, all }: Summary): string[] {
  const groups = Object.entries({ model, day, user }).flatMap(([by, totals]) => [...totals].map(([name, sums]) => ({ by, name, ...sums })));
  return [...groups, { by: 'all', ...all }].map((line) => JSON.stringify(line));
}

function nothing(): Totals {
  return { requests: 0, refused: 0, unknown: 0, input: 0, cached: 0, output: 0, reasoning: 0, total: 0 };
}

function totalsOf(groups: Map<string, Totals>, given: string): Totals {
  const name = given === '' ? '-' : given;
  const known = groups.get(name);
  if (known !== undefined) return known;
  if (groups.size >= maxGroups && name !== 'others') return totalsOf(groups, 'others');
  const totals = nothing();
  groups.set(name, totals);
  return totals;
}

function add(totals: Totals, record: ReadRecord): void {
  totals.requests++;
  const usage = tokensOf(record);
  if (record['decision'] === 'refused') totals.refused++;
  else if (usage === undefined && amount(record['bytes_up']) > 0) totals.unknown++;
  if (usage === undefined) return;
  for (const kind of tokenKinds) totals[kind] += amount(usage[kind]);
}

function table(title: string, groups: ReadonlyArray<readonly [string, Totals]>): string {
  const titles = [title, 'REQUESTS', 'REFUSED', 'NO USAGE', 'INPUT', 'CACHED', 'OUTPUT', 'REASONING', 'TOTAL'];
  const rows = groups.map(([name, { requests, refused, unknown, ...tokens }]) =>
    [name, ...[requests, refused, unknown, ...tokenKinds.map((kind) => tokens[kind])].map(String)]);
  const all = [titles, ...rows];
  const widths = titles.map((_, column) => all.reduce((most, cells) => Math.max(most, cells[column]?.length ?? 0), 0));
  return all
    .map((cells) => cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  ').trimEnd())
    .join('\n');
}
