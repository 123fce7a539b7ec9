import { type Hash, createHash } from 'node:crypto';
import { isTornEnd, lineOf, noHash } from './audit-chain.ts';
import { linesFrom } from './audit-lines.ts';

/** What the chain of a file says. */
export type Verdict =
  | {
      readonly ok: true;
      readonly records: number;
      /** The hash of the record before the file's first; undefined where that began a chain. */
      readonly continues: string | undefined;
      readonly lastHash: string | undefined;
      /** Lines that were left by writes which did not finish, and are accounted for. */
      readonly tornLines: number;
      /** Bytes behind the last newline: a record that is being written, or one whose write did not finish. */
      readonly tornEndBytes: number;
    }
  | {
      readonly ok: false;
      /** The first line that is not as it was written, from 1. */
      readonly line: number;
      readonly problem: string;
    };

/** Torn lines, from the last record on. */
interface Torn {
  readonly firstLine: number;
  lines: number;
  readonly hash: Hash;
}

/**
 * Checks the chain of a whole file. What an unkeyed chain cannot tell: whether records are missing at its end, and
 * whether all of it was made anew. Both show if a hash is known from earlier.
 *
 * @param path a file, also gzipped, or `-` for standard input
 * @param contains a hash that must be that of a record in it
 * @throws {Failure} when the file cannot be read
 */
export async function verify(path: string, contains: string | undefined): Promise<Verdict> {
  let [number, records, tornLines, tornEndBytes] = [0, 0, 0, 0];
  let continues: string | undefined;
  let lastHash: string | undefined;
  let torn: Torn | undefined;
  let isFound = contains === undefined;
  for await (const { bytes, isTooLong, isEnded } of linesFrom(path)) {
    number++;
    const broken = (problem: string, line = number): Verdict => ({ ok: false, line, problem });
    if (isTooLong) return broken('is longer than a record can be');
    if (!isEnded) {
      if (!isTornEnd(bytes)) return broken('was changed at its end');
      tornEndBytes = bytes.length;
      break;
    }
    const line = lineOf(bytes);
    if (line.kind === 'torn') {
      torn ??= { firstLine: number, lines: 0, hash: createHash('sha256') };
      torn.lines++;
      torn.hash.update(bytes).update('\n');
      continue;
    }
    if (line.kind === 'other') return broken('is no record');
    if (!line.isWhole) return broken('was changed: its bytes do not have its hash');
    const start = bytes.toString('latin1', 0, 200);
    const tornHash = /^\{"kind":"recovered",.*"torn_sha256":"([0-9a-f]{64})"/.exec(start)?.[1];
    if (tornHash !== torn?.hash.digest('hex')) return broken('was changed, or is not the torn line that was left there', torn?.firstLine);
    if (lastHash === undefined) {
      if (!start.startsWith('{"kind":"begin",') && !(tornHash !== undefined && line.prev === noHash)) return broken('is not the first of a log: lines before it are missing');
      continues = line.prev === noHash ? undefined : line.prev;
    } else if (line.prev !== lastHash) {
      return broken('does not follow the record before it: lines are missing, added or moved');
    }
    tornLines += torn?.lines ?? 0;
    torn = undefined;
    lastHash = line.hash;
    isFound ||= lastHash === contains;
    records++;
  }
  if (records === 0 && number > 0) return { ok: false, line: 1, problem: 'is no record, or not a whole one' };
  if (!isFound) return { ok: false, line: number, problem: 'is the last one, and no record has the hash that was asked for: records are missing, or all were made anew' };
  return { ok: true, records, continues, lastHash, tornLines: tornLines + (torn?.lines ?? 0), tornEndBytes };
}
