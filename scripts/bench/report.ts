import type { Column, Figures } from './figures.ts';
import type { MissingPeer, PeerName } from './peers.ts';

/** Where and with what a run was made. */
export interface Circumstances {
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  readonly node: string;
  readonly versions: Readonly<Partial<Record<PeerName, string>>>;
  readonly missing: readonly MissingPeer[];
  /** The load average before anything was measured. */
  readonly load: number;
  /** How many runs other programs disturbed, of how many. */
  readonly disturbed: number;
  readonly runs: number;
}

interface Verdict {
  readonly what: string;
  readonly goal: string;
  /** undefined where somebody it takes was not there. */
  readonly measured: string | undefined;
  readonly isReached: boolean | undefined;
  /** What the bare relay comes to; undefined where that says nothing. */
  readonly floor?: string;
}

interface Row {
  readonly label: string;
  readonly unit: string;
  value(column: Column): number | undefined;
}

export const columnNames: Readonly<Record<Column, string>> = {
  direct: 'direct', daemon: 'this daemon', nginx: 'nginx', haproxy: 'HAProxy', codex: 'codex', relay: 'bare relay',
};

const mebibyte = 1024 * 1024;

/** From this load average per core on, a report says that the machine was busy. */
const busyLoadShare = 0.5;

/** A number with about three significant digits, and thousands set apart. */
export function short(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 0.1 || value === 0 ? 2 : 3);
}

/** Everything that was measured, one line for each measure and one column for each who was. */
export function rowsOf(figures: Figures): Row[] {
  const row = (label: string, unit: string, name: string, factor = 1): Row => ({
    label, unit,
    value(column) {
      const value = figures.of(column, name);
      return value === undefined ? undefined : value * factor;
    },
  });
  const requests = (what: string, unit: string, name: string): Row[] => [1024, 55 * 1024].flatMap((bytes) => [1, 16, 64].map((connections) => (
    row(`${what}, ${connections === 1 ? '1 connection' : `${connections} connections`}, ${bytes / 1024} KB`, unit, `requests/${connections}/${bytes}/${name}`)
  )));
  const streams = (what: string, unit: string, name: string, factor = 1, counts: readonly number[] = [100, 500, 1000]): Row[] => (
    counts.map((count) => row(`${what}, ${count.toLocaleString('en-US')} streams`, unit, `streams/${count}/${name}`, factor))
  );
  const firstBytes = (where: string, name: string): Row[] => [
    row(`first byte, ${where}, first request`, 'ms', `${name}/firstMs`),
    row(`first byte, ${where}, next request`, 'ms', `${name}/nextMs`),
    row(`first byte, ${where}, after a long silence`, 'ms', `${name}/closedMs`),
  ];
  return [
    ...firstBytes('50 ms away', 'firstByte/50'),
    ...firstBytes('through a proxy 50 ms away', 'proxiedFirstByte/50'),
    ...firstBytes('1 ms away', 'firstByte/1'),
    row('55 KB right after the start, the first', 'ms', 'cold/firstMs'),
    row('55 KB right after the start, the next nine', 'ms', 'cold/nextMs'),
    ...requests('requests per second', '', 'perSecond'),
    ...requests('CPU per request', 'µs', 'cpuUs'),
    ...requests('p50', 'ms', 'p50Ms'),
    ...requests('p99', 'ms', 'p99Ms'),
    ...streams('event delay p50', 'ms', 'p50Ms'),
    ...streams('event delay p99', 'ms', 'p99Ms'),
    ...streams('CPU per event', 'µs', 'cpuUsPerEvent'),
    ...streams('memory per stream', 'KB', 'bytesPerStream', 1 / 1024, [500, 1000]),
    row('first of six small events', 'ms', 'firstEvent/firstEventMs'),
    row('512 MiB upload, memory grows by', 'MB', 'bigUpload/grewBytes', 1 / mebibyte),
    row('Codex request (55 KB), 1 connection, p50', 'µs', 'audit/p50UsWithout'),
    row('the same with audit log and policy', 'µs', 'audit/p50Us'),
    row('start-up', 'ms', 'start/startMs'),
    row('memory when idle', 'MB', 'start/idleBytes', 1 / mebibyte),
  ];
}

/** The goals, as ratios and differences inside one run. */
function judge(figures: Figures): Verdict[] {
  const of = (column: Column, name: string): number => figures.of(column, name) ?? Number.NaN;
  const ratio = (name: string, other: Column): number => of('daemon', name) / of(other, name);
  const verdict = (what: string, goal: string, value: number, unit: string, isReached: boolean): Verdict => (
    Number.isNaN(value) ? { what, goal, measured: undefined, isReached: undefined } : { what, goal, measured: `${short(value)} ${unit}`, isReached }
  );
  const atMost = (what: string, limit: number, unit: string, value: number): Verdict => verdict(what, `at most ${limit} ${unit}`, value, unit, value <= limit);
  const atLeast = (what: string, limit: number, unit: string, value: number): Verdict => verdict(what, `at least ${limit} ${unit}`, value, unit, value >= limit);

  const at16 = 'requests/16/1024';
  const at1 = 'requests/1/1024';
  const at500 = 'streams/500';
  const floor = (other: Column): string => {
    const value = of('relay', `${at16}/cpuUs`) / of(other, `${at16}/cpuUs`);
    return Number.isNaN(value) ? '' : short(value);
  };
  const relayMs = (name: string): string => (figures.of('relay', name) === undefined ? '' : `${short(of('relay', name))} ms`);
  const added = (column: Column): number => of(column, `${at1}/p50Ms`) - of('direct', `${at1}/p50Ms`);
  const byItself = (name: string): number => ratio(name, 'direct');
  const worst = (name: string): number => Math.max(...['firstMs', 'nextMs', 'closedMs'].map((one) => byItself(`${name}/${one}`)));
  const unit = '× by itself';
  return [
    atMost('first byte, 50 ms away, first request', 0.45, unit, byItself('firstByte/50/firstMs')),
    atMost('first byte, 50 ms away, next request', 0.45, unit, byItself('firstByte/50/nextMs')),
    atMost('first byte, 50 ms away, after a long silence', 0.45, unit, byItself('firstByte/50/closedMs')),
    atMost('first byte, through a proxy 50 ms away, the worst of the three', 0.45, unit, worst('proxiedFirstByte/50')),
    atMost('first byte, 1 ms away, the worst of the three', 1, unit, worst('firstByte/1')),
    { ...atMost('55 KB right after the start, the first', 5, 'ms', of('daemon', 'cold/firstMs')), floor: relayMs('cold/firstMs') },
    { ...atMost('55 KB right after the start, the next nine', 2, 'ms', of('daemon', 'cold/nextMs')), floor: relayMs('cold/nextMs') },
    atMost('CPU per request, 16 connections', 1.06, '× the bare relay', ratio(`${at16}/cpuUs`, 'relay')),
    atLeast('requests per second, 16 connections', 3, '× codex', ratio(`${at16}/perSecond`, 'codex')),
    atLeast('requests per second, 16 connections', 0.5, '× nginx', ratio(`${at16}/perSecond`, 'nginx')),
    { ...atMost('CPU per request, 16 connections', 0.2, '× codex', ratio(`${at16}/cpuUs`, 'codex')), floor: floor('codex') },
    { ...atMost('CPU per request, 16 connections', 2, '× nginx', ratio(`${at16}/cpuUs`, 'nginx')), floor: floor('nginx') },
    atMost('p50 added at 1 connection', 2, '× nginx', added('daemon') / added('nginx')),
    atMost('p99 at 1 connection', 1, 'ms', of('daemon', `${at1}/p99Ms`)),
    atMost('p99 at 16 connections', 1, '× codex', ratio(`${at16}/p99Ms`, 'codex')),
    atMost('event delay at 500 streams, p50 added', 0.3, 'ms', of('daemon', `${at500}/p50Ms`) - of('direct', `${at500}/p50Ms`)),
    atMost('event delay at 500 streams, p99', 10, 'ms', of('daemon', `${at500}/p99Ms`)),
    atMost('CPU per event at 500 streams', 2, '× nginx', ratio(`${at500}/cpuUsPerEvent`, 'nginx')),
    atMost('memory per stream at 500 streams', 1.5, '× nginx', ratio(`${at500}/bytesPerStream`, 'nginx')),
    atMost('p50 added by audit log and policy', 100, 'µs', of('daemon', 'audit/addedUs')),
    atMost('memory when idle', 60, 'MB', of('daemon', 'start/idleBytes') / mebibyte),
    atMost('start-up', 120, 'ms', of('daemon', 'start/startMs')),
  ];
}

/** The whole result as Markdown, with nothing in it that tells whose machine it was. */
export function markdown(figures: Figures, columns: readonly Column[], circumstances: Circumstances): string {
  return [...heading(circumstances), '', ...figureTable(columns, rowsOf(figures)), ''].join('\n');
}

/** What a user of the daemon can notice. */
const felt = new Set([
  'first byte, 50 ms away, first request', 'first byte, 50 ms away, next request', 'first byte, 50 ms away, after a long silence',
  'p50, 1 connection, 55 KB', 'event delay p50, 500 streams', 'first of six small events', '512 MiB upload, memory grows by',
]);

/** The part of it that the README beside this file shows. */
export function summary(figures: Figures, columns: readonly Column[], circumstances: Circumstances): string {
  return [...heading(circumstances), '', ...figureTable(columns, rowsOf(figures).filter(({ label }) => felt.has(label))), ''].join('\n');
}

function heading({ date, cpu, cores, kernel, node, versions, missing, load, disturbed, runs }: Circumstances): string[] {
  const programs = Object.entries(versions).map(([name, version]) => `${columnNames[name as PeerName]} ${version}`);
  return [
    `${date}, ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}; ${programs.join(', ')}.`,
    ...missing.map(({ name, reason }) => `Without ${columnNames[name]}: ${reason}.`),
    ...(load < cores * busyLoadShare ? [] : [`The machine was busy, with a load average of ${short(load)} before the first run: only ratios within a row say anything.`]),
    ...(disturbed === 0 ? [] : [`The machine is shared: other programs disturbed ${disturbed} of ${runs} runs.`]),
  ];
}

/** How the figures stand to the goals: for who works on the daemon. */
export function goals(figures: Figures): string {
  return table(['goal', '', 'measured', '', 'floor'], judge(figures).map(({ what, goal, measured, isReached, floor = '' }) => (
    [what, goal, measured ?? 'not measured', isReached === undefined ? '' : isReached ? 'reached' : 'not reached', floor]
  ))).join('\n');
}

function figureTable(columns: readonly Column[], rows: readonly Row[]): string[] {
  return table(['', '', ...columns.map((column) => columnNames[column])], rows.flatMap(({ label, unit, value }) => {
    const values = columns.map((column) => value(column));
    return values.every((one) => one === undefined) ? [] : [[label, unit, ...values.map((one) => (one === undefined ? '' : short(one)))]];
  }));
}

/** A Markdown table that can be read as it is. */
export function table(head: readonly string[], rows: ReadonlyArray<readonly string[]>): string[] {
  const widths = head.map((title, column) => Math.max(3, title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const isNumeric = (column: number): boolean => rows.every((row) => /^[-\d.,]*$/.test(row[column] ?? ''));
  const line = (cells: readonly string[]): string => {
    const padded = cells.map((cell, column) => (isNumeric(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)));
    return `| ${padded.join(' | ')} |`;
  };
  const rule = widths.map((width, column) => (isNumeric(column) ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)));
  return [line(head), line(rule), ...rows.map(line)];
}
