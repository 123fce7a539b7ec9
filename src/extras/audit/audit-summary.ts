import { type ReadRecord, amount, text, tokensOf } from './audit-reading.ts';
import { type FileVerdict, checkFile, inChainOrder, nameOf, told } from './audit-verify.ts';

/** Most models, days, users or rules that are told apart; clients choose what they call a model. What comes after is `others`. */
const maxGroups = 10_000;

const tokenKinds = ['input', 'cached', 'output', 'reasoning', 'total'] as const;

/** What is counted of a group of requests. `unknown` went up, and their answers did not say what they cost. `charged` is what budgets count. */
const counts = ['requests', 'refused', 'unknown', ...tokenKinds, 'charged'] as const;

export type Totals = Record<(typeof counts)[number], number>;

const groupings = ['model', 'day', 'user', 'decision', 'rule'] as const;

type Grouping = (typeof groupings)[number];

/** Totals by each group's name, and of all. What is not known is called `-`. A request counts in each rule that refused it. */
export type Summary = Readonly<Record<Grouping, Map<string, Totals>>> & { readonly all: Totals };

export interface SummaryOptions {
  /** None before this time, in the form that records have; undefined for all. */
  readonly since: string | undefined;
  /** A user's name; undefined where there is no such account. */
  readonly nameOf: (uid: number) => string | undefined;
}

/**
 * Sums up the files of a log. Each is read once; they count in the order of their chain, not in the order they are given in.
 * Memory is bounded, however long they are.
 *
 * @param paths files, also gzipped, or `-` for standard input
 * @param notes is told what `audit verify` objects to, and what the sums do not show
 * @throws {Failure} when a file cannot be read, or is there twice
 */
export async function summarise(paths: readonly string[], options: SummaryOptions, notes: string[]): Promise<Summary> {
  const summaries = new Map<FileVerdict, Summary>();
  for (const path of paths) {
    const summary = emptySummary();
    summaries.set(await checkFile(path, counter(summary, options)), summary);
  }
  const files = inChainOrder([...summaries.keys()]);
  const merged = emptySummary();
  for (const file of files) {
    const summary = summaries.get(file) ?? emptySummary();
    for (const grouping of groupings) for (const [name, totals] of summary[grouping]) add(groupIn(merged[grouping], name), totals);
    add(merged.all, summary.all);
    notes.push(...file.faults.map((fault) => told(file, fault)));
  }
  const [first, last] = [files.find(({ records }) => records > 0), files.findLast(({ records }) => records > 0)];
  if (first !== undefined && first.chargedBefore > 0) notes.push(`${nameOf(first)} goes on after files that were charged ${first.chargedBefore} tokens`);
  if (last !== undefined && last.ledger.open.size > 0) notes.push(`${nameOf(last)}: ${last.ledger.open.size} requests have not ended; ${last.ledger.reserved} tokens are reserved for them`);
  return merged;
}

/** Counts the records that it is shown. */
function counter(summary: Summary, { since, nameOf }: SummaryOptions): (record: ReadRecord) => void {
  const names = new Map<string, string>();
  const userOf = (uid: unknown): string => {
    const given = text(uid);
    const known = names.get(given) ?? text((typeof uid === 'number' ? tryName(nameOf, uid) : undefined) ?? given);
    if (names.size < maxGroups) names.set(given, known);
    return known;
  };
  return (record) => {
    if (record['kind'] !== 'request' || (since !== undefined && record.time < since)) return;
    const totals = totalsOf(record);
    const groups: Record<Grouping, readonly string[]> = {
      model: [text(record['model'])],
      day: [text(record.time.slice(0, 10))],
      user: [userOf(record['uid'])],
      decision: [text(record['decision'])],
      rule: rulesOf(record),
    };
    add(summary.all, totals);
    for (const grouping of groupings) for (const name of groups[grouping]) add(groupIn(summary[grouping], name), totals);
  };
}

function tryName(nameOf: SummaryOptions['nameOf'], uid: number): string | undefined {
  try {
    return nameOf(uid);
  } catch {
    return undefined; // a directory service that is down; the uid says it, too
  }
}

/** Those that refused a request, or would have. */
function rulesOf({ decision, rule, rules }: ReadRecord): readonly string[] {
  return decision === 'allowed' ? [] : [...new Set((Array.isArray(rules) ? rules : [rule]).map(text))];
}

/** As tables for people. */
export function summaryTables({ model, day, user, decision, rule, all }: Summary): string {
  const largestFirst = (groups: ReadonlyMap<string, Totals>): Array<[string, Totals]> => [...groups].sort(([, a], [, b]) => b.total - a.total || b.requests - a.requests);
  const mostFirst = (groups: ReadonlyMap<string, Totals>): Array<[string, Totals]> => [...groups].sort(([, a], [, b]) => b.requests - a.requests);
  const tables = [
    table('MODEL', largestFirst(model)),
    table('DAY', [...day].sort(([a], [b]) => (a < b ? 1 : -1))),
    table('USER', largestFirst(user)),
    table('DECISION', mostFirst(decision)),
    ...(rule.size === 0 ? [] : [table('RULE', mostFirst(rule))]),
    table('', [['all', all]]),
  ];
  return tables.join('\n\n');
}

/** As JSON lines. */
export function summaryLines(summary: Summary): string[] {
  const groups = groupings.flatMap((by) => [...summary[by]].map(([name, totals]) => ({ by, name, ...totals })));
  return [...groups, { by: 'all', ...summary.all }].map((line) => JSON.stringify(line));
}

function emptySummary(): Summary {
  return { model: new Map(), day: new Map(), user: new Map(), decision: new Map(), rule: new Map(), all: nothing() };
}

function nothing(): Totals {
  return { requests: 0, refused: 0, unknown: 0, input: 0, cached: 0, output: 0, reasoning: 0, total: 0, charged: 0 };
}

function groupIn(groups: Map<string, Totals>, given: string): Totals {
  const name = given === '' ? '-' : given;
  const known = groups.get(name);
  if (known !== undefined) return known;
  if (groups.size >= maxGroups && name !== 'others') return groupIn(groups, 'others');
  const totals = nothing();
  groups.set(name, totals);
  return totals;
}

function totalsOf(record: ReadRecord): Totals {
  const usage = tokensOf(record);
  const isRefused = record['decision'] === 'refused';
  const totals = { ...nothing(), requests: 1, refused: Number(isRefused), unknown: Number(usage === undefined && amount(record['charged']) > 0), charged: amount(record['charged']) };
  for (const kind of tokenKinds) totals[kind] = amount(usage?.[kind]);
  return totals;
}

function add(totals: Totals, more: Totals): void {
  for (const count of counts) totals[count] += more[count];
}

function table(title: string, groups: ReadonlyArray<readonly [string, Totals]>): string {
  const titles = [title, 'REQUESTS', 'REFUSED', 'NO USAGE', 'INPUT', 'CACHED', 'OUTPUT', 'REASONING', 'TOTAL', 'CHARGED'];
  const rows = [titles, ...groups.map(([name, totals]) => [name, ...counts.map((count) => String(totals[count]))])];
  const widths = titles.map((_, column) => rows.reduce((most, cells) => Math.max(most, cells[column]?.length ?? 0), 0));
  const padded = (cells: readonly string[]): string[] => cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)));
  return rows.map((cells) => padded(cells).join('  ').trimEnd()).join('\n');
}
