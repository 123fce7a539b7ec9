import { Failure } from '../../run/failure.ts';
import { lineOf, noHash } from './audit-chain.ts';
import { type ReadRecord, amount, complaint, read, text, tokensOf } from './audit-reading.ts';
import { linesFrom, standardInput } from './audit-lines.ts';

/** Most models, days, users or rules that are told apart; clients choose what they call a model. What comes after is `others`. */
const maxGroups = 10_000;

const tokenKinds = ['input', 'cached', 'output', 'reasoning', 'total'] as const;

/** What is counted of a group of requests. `unknown` went up, and their answers did not say what they cost. */
const counts = ['requests', 'refused', 'unknown', ...tokenKinds] as const;

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

/** A file's part of the summary, and where it stands in the chain. */
interface Part {
  readonly path: string;
  readonly summary: Summary;
  /** The hash before its first record; undefined where it has none. */
  prev: string | undefined;
  first: string | undefined;
  last: string | undefined;
  beganAt: string | undefined;
}

/**
 * Sums up the files of a log. Each is read once; they count in the order of their chain, not in the order they are given in.
 * Memory is bounded, however long they are.
 *
 * @param paths files, also gzipped, or `-` for standard input
 * @param notes is told of lines that are no records, and where the files are not one chain
 * @throws {Failure} when a file cannot be read, or is there twice
 */
export async function summarise(paths: readonly string[], options: SummaryOptions, notes: string[]): Promise<Summary> {
  const parts: Part[] = [];
  for (const path of paths) parts.push(await readPart(path, options, notes));
  const merged = emptySummary();
  for (const { summary } of inChainOrder(parts, notes)) {
    for (const grouping of groupings) for (const [name, totals] of summary[grouping]) add(groupIn(merged[grouping], name), totals);
    add(merged.all, summary.all);
  }
  return merged;
}

async function readPart(path: string, { since, nameOf }: SummaryOptions, notes: string[]): Promise<Part> {
  const summary = emptySummary();
  const part: Part = { path, summary, prev: undefined, first: undefined, last: undefined, beganAt: undefined };
  const names = new Map<string, string>();
  const userOf = (uid: unknown): string => {
    const given = text(uid);
    const known = names.get(given) ?? text((typeof uid === 'number' ? tryName(nameOf, uid) : undefined) ?? given);
    if (names.size < maxGroups) names.set(given, known);
    return known;
  };
  let lastLine: Buffer | undefined;
  let unreadable = 0;
  for await (const line of linesFrom(path)) {
    const record = read(line);
    if (record === undefined) {
      unreadable += Number(line.isEnded);
      continue;
    }
    if (part.first === undefined) {
      const begin = lineOf(line.bytes);
      if (begin.kind === 'record') [part.prev, part.first, part.beganAt] = [begin.prev, begin.hash, record.time];
    }
    lastLine = Buffer.from(line.bytes);
    if (record['kind'] !== 'request' || (since !== undefined && record.time < since)) continue;
    const totals = totalsOf(record);
    const names: Record<Grouping, readonly string[]> = {
      model: [text(record['model'])],
      day: [text(record.time.slice(0, 10))],
      user: [userOf(record['uid'])],
      decision: [text(record['decision'])],
      rule: rulesOf(record),
    };
    add(summary.all, totals);
    for (const grouping of groupings) for (const name of names[grouping]) add(groupIn(summary[grouping], name), totals);
  }
  const end = lastLine === undefined ? undefined : lineOf(lastLine);
  if (end?.kind === 'record') part.last = end.hash;
  notes.push(...complaint(unreadable, path));
  return part;
}

function tryName(nameOf: SummaryOptions['nameOf'], uid: number): string | undefined {
  try {
    return nameOf(uid);
  } catch {
    return undefined; // a directory service that is down; the uid says it, too
  }
}

/** Each file behind the one whose last record its first one names; where there is none, by time. */
function inChainOrder(parts: readonly Part[], notes: string[]): Part[] {
  const nameOf = ({ path }: Part): string => (path === standardInput ? 'standard input' : path);
  const byFirst = new Map<string, Part>();
  for (const part of parts) {
    const twin = part.first === undefined ? undefined : byFirst.get(part.first);
    if (twin !== undefined) throw new Failure(`${nameOf(twin)} and ${nameOf(part)} begin with the same record`, { hint: 'one is a copy of the other: leave it out' });
    if (part.first !== undefined) byFirst.set(part.first, part);
  }
  const next = new Map(parts.flatMap((part) => (part.prev === undefined || part.prev === noHash ? [] : [[part.prev, part] as const])));
  const lasts = new Set(parts.map(({ last }) => last));
  const heads = parts.filter(({ prev }) => prev === undefined || !lasts.has(prev)).sort((a, b) => inOrder(a.beganAt ?? '', b.beganAt ?? ''));
  const ordered: Part[] = [];
  for (const head of heads) {
    if (ordered.length > 0 && head.first !== undefined) notes.push(`${nameOf(head)} does not go on where another of the files ends: one between them is missing, or it is of another log`);
    for (let part: Part | undefined = head; part !== undefined && !ordered.includes(part); part = part.last === undefined ? undefined : next.get(part.last)) ordered.push(part);
  }
  // Only forged hashes make a ring. Its files count all the same.
  return [...ordered, ...parts.filter((part) => !ordered.includes(part))];
}

/** For sort(), which must hear of equals: files that began in one millisecond stay in the order that they were given in. */
function inOrder(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** Those that refused a request, or would have. Records of earlier versions have the first alone. */
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
  return { requests: 0, refused: 0, unknown: 0, input: 0, cached: 0, output: 0, reasoning: 0, total: 0 };
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
  const totals = { ...nothing(), requests: 1, refused: Number(isRefused), unknown: Number(!isRefused && usage === undefined && amount(record['bytes_up']) > 0) };
  for (const kind of tokenKinds) totals[kind] = amount(usage?.[kind]);
  return totals;
}

function add(totals: Totals, more: Totals): void {
  for (const count of counts) totals[count] += more[count];
}

function table(title: string, groups: ReadonlyArray<readonly [string, Totals]>): string {
  const titles = [title, 'REQUESTS', 'REFUSED', 'NO USAGE', 'INPUT', 'CACHED', 'OUTPUT', 'REASONING', 'TOTAL'];
  const rows = [titles, ...groups.map(([name, totals]) => [name, ...counts.map((count) => String(totals[count]))])];
  const widths = titles.map((_, column) => rows.reduce((most, cells) => Math.max(most, cells[column]?.length ?? 0), 0));
  const padded = (cells: readonly string[]): string[] => cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)));
  return rows.map((cells) => padded(cells).join('  ').trimEnd()).join('\n');
}
