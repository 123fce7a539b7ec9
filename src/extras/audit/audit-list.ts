import { closeSync } from 'node:fs';
import { Failure } from '../../run/failure.ts';
import { lineOf } from './audit-chain.ts';
import { isGzip, linesBack, openToRead, readAt } from './audit-lines.ts';
import { type ReadRecord, read, text, tokensOf } from './audit-reading.ts';

const columns: ReadonlyArray<readonly [title: string, width: number, align: 'left' | 'right']> = [
  ['TIME', 24, 'left'],
  ['ID', 16, 'left'],
  ['UID', 5, 'right'],
  ['MODEL', 20, 'left'],
  ['STATUS', 6, 'right'],
  ['ENDED', 15, 'left'],
  ['INPUT', 9, 'right'],
  ['OUTPUT', 9, 'right'],
  ['SECONDS', 8, 'right'],
];

const noteOnKind = new Map<unknown, string>([['admitted', 'has not ended'], ['begin', 'the log begins'], ['start', 'the daemon starts'], ['stop', 'the daemon stops']]);

/**
 * The records of a file, newest first. That a request was admitted is left out where its end is there.
 *
 * @param limit how many at most
 * @param since none before this time, in the form that records have; undefined for all
 * @param notes is told of lines that are no records
 * @throws {Failure} when the file cannot be read
 */
export function* newestFirst(path: string, { limit, since }: { readonly limit: number; readonly since: string | undefined }, notes: string[] = []): Generator<ReadRecord, void, undefined> {
  const fd = openToRead(path);
  let [count, unreadable] = [0, 0];
  const ended = new Set<unknown>();
  try {
    if (isGzip(readAt(fd, 0, 2))) throw new Failure(`cannot list ${path}: it is compressed`, { hint: 'gunzip it first; audit summary and audit verify read it as it is' });
    for (const line of linesBack(fd)) {
      if (count === limit) return;
      const record = read(line);
      if (record === undefined) {
        unreadable += Number(line.isEnded && lineOf(line.bytes).kind !== 'torn');
        continue;
      }
      const { kind, id, charged } = record;
      if (kind === 'request' && charged !== undefined) ended.add(id);
      if (kind === 'admitted' && ended.delete(id)) continue;
      // In the order of time, as they were written when they ended. A clock that was set back can hide some.
      if (since !== undefined && record.time < since) return;
      count++;
      yield record;
    }
  } finally {
    closeSync(fd);
    if (unreadable > 0) notes.push(`${unreadable} ${unreadable === 1 ? 'line is' : 'lines are'} no record; responses-api-proxy audit verify ${path} tells which`);
  }
}

/** The first line of the table. */
export function heading(): string {
  return row(columns.map(([title]) => title), 'NOTE');
}

/** A record as a line of the table. */
export function tableRow(record: ReadRecord): string {
  const tokens = tokensOf(record);
  const { id, uid, model, status, ended, total_ms: totalMs } = record;
  const seconds = typeof totalMs === 'number' ? (totalMs / 1000).toFixed(2) : '';
  return row([record.time, id, uid, model, status, ended, tokens?.['input'], tokens?.['output'], seconds].map(text), noteOn(record));
}

/** What is out of the ordinary: why it was refused and what it was, or what happened to the log. */
function noteOn(record: ReadRecord): string {
  switch (record['kind']) {
    case 'request':
      if (record['decision'] === 'allowed') return '';
      return `${text(record['decision'])} (${text(record['rule'])}): ${text(record['method'])} ${text(record['target'])}`;
    case 'recovered':
      return `a write of ${text(record['torn_bytes'])} bytes had not finished`;
    case 'gap':
      return `${text(record['lost'])} requests are missing`;
    default:
      return noteOnKind.get(record['kind']) ?? text(record['kind']);
  }
}

function row(cells: readonly string[], note: string): string {
  const padded = columns.map(([, width, align], index) => {
    const cell = cells[index] ?? '';
    return align === 'left' ? cell.padEnd(width) : cell.padStart(width);
  });
  return [...padded, note].join('  ').trimEnd();
}
