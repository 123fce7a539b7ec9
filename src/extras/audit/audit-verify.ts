import { type Hash, createHash } from 'node:crypto';
import { Failure } from '../../run/failure.ts';
import { isTornEnd, lineOf, noHash } from './audit-chain.ts';
import { Ledger, olderFormat } from './audit-ledger.ts';
import { linesFrom, standardInput } from './audit-lines.ts';
import { type ReadRecord, amount, read } from './audit-reading.ts';

/** What is wrong with a file, and where. */
export interface Fault {
  /** From 1. */
  readonly line: number;
  readonly problem: string;
}

/** What the chain of a file says. */
export interface FileVerdict {
  readonly path: string;
  /** In the order of their lines. After the first that breaks the chain, no other break is told. */
  readonly faults: Fault[];
  records: number;
  lines: number;
  /** When it begins, in the form that records have. */
  beganAt: string;
  /** The hash of the record before the file's first; undefined where that began a chain. */
  continues: string | undefined;
  firstHash: string | undefined;
  lastHash: string | undefined;
  /** What was charged in the files before it. */
  chargedBefore: number;
  /** Lines that were left by writes which did not finish, and are accounted for. */
  tornLines: number;
  /** Lines of starts that no stop came before: the daemon was killed. */
  readonly uncleanEnds: number[];
  /** What is admitted at its end: still running, carried on in the next file, or killed. */
  ledger: Ledger;
}

/** Torn lines, from the last record on. */
interface Torn {
  readonly firstLine: number;
  lines: number;
  readonly hash: Hash;
}

/**
 * Checks the chain of a whole file, and that it adds up. What an unkeyed chain cannot tell: whether records are missing at
 * its end, and whether all of it was made anew. Both show if a hash is known from earlier.
 *
 * @param path a file, also gzipped, or `-` for standard input
 * @param see is shown each record, and its hash
 * @throws {Failure} when the file cannot be read, or is of an older format
 */
export async function checkFile(path: string, see: (record: ReadRecord, hash: string | undefined) => void = () => {}): Promise<FileVerdict> {
  const file: FileVerdict = { path, faults: [], records: 0, lines: 0, beganAt: '', continues: undefined, firstHash: undefined, lastHash: undefined, chargedBefore: 0, tornLines: 0, uncleanEnds: [], ledger: new Ledger() };
  let [isBroken, hasBegun, isRunning] = [false, false, false];
  let torn: Torn | undefined;
  const fault = (problem: string, line = file.lines): void => void file.faults.push({ line, problem });
  const broken = (problem: string, line?: number): void => {
    if (!isBroken) fault(problem, line);
    isBroken = true;
  };
  /** What the line says of the chain. */
  const follow = (record: ReadRecord, line: ReturnType<typeof lineOf> & { kind: 'record' }): void => {
    if (!line.isWhole) broken('was changed: its bytes do not have its hash');
    if (record['torn_sha256'] !== torn?.hash.digest('hex')) broken('was changed, or is not the torn line that was left there', torn?.firstLine);
    if (file.lastHash === undefined) Object.assign(file, { beganAt: record.time, continues: line.prev === noHash ? undefined : line.prev, firstHash: line.hash });
    else if (line.prev !== file.lastHash) broken('does not follow the record before it: lines are missing, added or moved');
    file.tornLines += torn?.lines ?? 0;
    torn = undefined;
    file.lastHash = line.hash;
    file.records++;
  };
  /** What it says of the uses of the key. */
  const account = (record: ReadRecord): void => {
    const { kind, open, lost, tokens } = record;
    if (kind === 'begin' && open === undefined && !isBroken) throw new Failure(`${nameOf(file)}: ${olderFormat}`, { hint: 'read it with that version' });
    if (kind === 'begin') {
      file.ledger = new Ledger();
      file.ledger.addSums(record);
      isRunning = file.continues !== undefined;
      if (!hasBegun) file.chargedBefore = amount(tokens);
    } else if (!hasBegun && kind !== 'recovered') {
      broken('is not the first of a log: lines before it are missing');
    }
    hasBegun ||= kind !== 'recovered';
    if (kind === 'gap') fault(`tells that records of ${amount(lost)} requests are lost`);
    if (kind === 'start' && isRunning) file.uncleanEnds.push(file.lines);
    if (kind === 'start' || kind === 'stop') isRunning = kind === 'start';
    if (kind === 'start' && (file.ledger.open.size > 0 || tokens !== file.ledger.tokens)) broken('does not add up with what is before it');
    if (!file.ledger.take(record)) broken('is charged, and was not admitted before');
  };

  for await (const { bytes, isTooLong, isEnded } of linesFrom(path)) {
    file.lines++;
    if (!isEnded && !isTooLong) {
      if (isTornEnd(bytes)) fault(`is torn: its last ${bytes.length} bytes are no record`);
      else broken('was changed at its end');
      break;
    }
    const line = lineOf(bytes);
    if (line.kind === 'torn') {
      torn ??= { firstLine: file.lines, lines: 0, hash: createHash('sha256') };
      torn.lines++;
      torn.hash.update(bytes).update('\n');
      continue;
    }
    const record = isTooLong ? undefined : read({ bytes, isTooLong, isEnded });
    if (isTooLong) broken('is longer than a record can be');
    else if (line.kind === 'other' || record === undefined) broken('is no record');
    else follow(record, line);
    if (record === undefined) continue;
    if (line.kind === 'record') account(record);
    see(record, line.kind === 'record' ? line.hash : undefined);
  }
  return file;
}

/**
 * Each file behind the one whose last record its first one names; where there is none, by time. A file that does not go on
 * where another ends gets a fault.
 *
 * @throws {Failure} when one is there twice
 */
export function inChainOrder(files: readonly FileVerdict[]): FileVerdict[] {
  const byFirst = new Map<string, FileVerdict>();
  for (const file of files) {
    const twin = file.firstHash === undefined ? undefined : byFirst.get(file.firstHash);
    if (twin !== undefined) throw new Failure(`${nameOf(twin)} and ${nameOf(file)} begin with the same record`, { hint: 'one is a copy of the other: leave it out' });
    if (file.firstHash !== undefined) byFirst.set(file.firstHash, file);
  }
  const next = new Map(files.flatMap((file) => (file.continues === undefined ? [] : [[file.continues, file] as const])));
  const lasts = new Set(files.map(({ lastHash }) => lastHash));
  const heads = files.filter(({ continues }) => continues === undefined || !lasts.has(continues)).sort((a, b) => a.beganAt.localeCompare(b.beganAt));
  const ordered: FileVerdict[] = [];
  for (const head of heads) {
    if (ordered.some(({ records }) => records > 0) && head.records > 0) head.faults.unshift({ line: 1, problem: 'does not go on where another of the files ends: one between them is missing, or it is of another log' });
    for (let file: FileVerdict | undefined = head; file !== undefined && !ordered.includes(file); file = file.lastHash === undefined ? undefined : next.get(file.lastHash)) ordered.push(file);
  }
  // Only forged hashes make a ring. Its files count all the same.
  return [...ordered, ...files.filter((file) => !ordered.includes(file))];
}

/** What messages call a file. */
export function nameOf({ path }: Pick<FileVerdict, 'path'>): string {
  return path === standardInput ? 'standard input' : path;
}

/** A fault in words. */
export function told(file: FileVerdict, { line, problem }: Fault): string {
  return `${nameOf(file)}: line ${line} ${problem}`;
}
