// Looks for a key in a running process, from outside: its arguments, its environment, all of its memory.
//
//   echo "$KEY" | sudo "$(command -v node)" --import tsx scripts/custody-probe.ts PID
//
// Exits with 1 if it finds a copy outside of locked memory. This process holds the key in the clear, so use a throwaway one.
import { closeSync, existsSync, openSync, readFileSync, readSync, realpathSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

/**
 * What a look at a process brought: the system forbade it, or so many bytes with so many copies of the key among them.
 * Copies in locked memory are counted apart: the key has to be somewhere, and without memfd_secret root can read it there.
 */
export type Look =
  | { readonly kind: 'refused'; readonly code: string }
  | { readonly kind: 'seen'; readonly bytes: number; readonly copies: number; readonly lockedCopies: number };

const pieceBytes = 8 * 1024 * 1024;
// An area of proc_pid_smaps(5): a line with its addresses and rights, then lines of one field each, VmFlags the last.
const readableArea = /^([0-9a-f]+)-([0-9a-f]+) r.*\n(?:[A-Z].*\n)*?VmFlags: (.*)$/gm;

/** Looks for the key in a file that can be read at once, such as /proc/PID/environ. */
export function lookAtFile(path: string, key: string): Look {
  try {
    const bytes = readFileSync(path);
    return { kind: 'seen', bytes: bytes.length, copies: copiesIn(bytes, key), lockedCopies: 0 };
  } catch (error) {
    return { kind: 'refused', code: codeOf(error) };
  }
}

/** Looks for the key in all memory of a process that this user may read; pages that nobody may read are passed over. */
export function lookAtMemory(pid: number, key: string): Look {
  let memory: number;
  let areas: string;
  try {
    areas = readFileSync(`/proc/${pid}/smaps`, 'latin1');
    memory = openSync(`/proc/${pid}/mem`, 'r');
  } catch (error) {
    return { kind: 'refused', code: codeOf(error) };
  }
  const piece = Buffer.alloc(pieceBytes);
  let bytes = 0;
  let copies = 0;
  let lockedCopies = 0;
  try {
    for (const [, from = '', to = '', flags = ''] of areas.matchAll(readableArea)) {
      const locked = flags.split(' ').includes('lo');
      const end = BigInt(`0x${to}`);
      let at = BigInt(`0x${from}`);
      while (at < end) {
        const length = readPiece(memory, piece, at, end);
        if (length === 0) break;
        bytes += length;
        const found = copiesIn(piece.subarray(0, length), key);
        if (locked) lockedCopies += found;
        else copies += found;
        if (at + BigInt(length) >= end) break;
        // The next piece begins a little earlier, for a copy may lie across the border.
        at += BigInt(Math.max(1, length - key.length + 1));
      }
    }
  } finally {
    closeSync(memory);
  }
  return { kind: 'seen', bytes, copies, lockedCopies };
}

function readPiece(memory: number, piece: Buffer, at: bigint, end: bigint): number {
  const wanted = end - at < BigInt(piece.length) ? Number(end - at) : piece.length;
  try {
    return readSync(memory, piece, 0, wanted, at);
  } catch {
    return 0; // A device, or secret memory: the kernel lets no process read it from outside.
  }
}

function copiesIn(bytes: Buffer, key: string): number {
  let copies = 0;
  for (let at = bytes.indexOf(key, 0, 'latin1'); at !== -1; at = bytes.indexOf(key, at + 1, 'latin1')) copies += 1;
  return copies;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** The result of a look as a line of text. */
export function inWords(look: Look): string {
  if (look.kind === 'refused') return `refused (${look.code})`;
  const seen = `${size(look.bytes)} read, ${look.copies} ${look.copies === 1 ? 'copy' : 'copies'} of the key`;
  return look.lockedCopies === 0 ? seen : `${seen}, but for ${look.lockedCopies} in locked pages`;
}

function size(bytes: number): string {
  return bytes < 1024 * 1024 ? `${bytes} bytes` : `${(bytes / 1024 / 1024).toFixed(0)} MiB`;
}

/** Everything there is to look at in a process, by its name. */
export function lookEverywhere(pid: number, key: string): ReadonlyArray<readonly [place: string, look: Look]> {
  return [
    ['arguments', lookAtFile(`/proc/${pid}/cmdline`, key)],
    ['environment', lookAtFile(`/proc/${pid}/environ`, key)],
    ['memory', lookAtMemory(pid, key)],
  ];
}

function main(): number {
  const [pid = '', ...others] = process.argv.slice(2);
  const [key = ''] = readFileSync(process.stdin.fd, 'latin1').split(/\r?\n/);
  if (!/^[1-9]\d*$/.test(pid) || others.length > 0 || key === '') {
    console.error('custody-probe: takes the PID of a process, and the key to look for on stdin');
    return 2;
  }
  if (!existsSync(`/proc/${pid}`)) {
    console.error(`custody-probe: there is no process ${pid}`);
    return 2;
  }
  const looks = lookEverywhere(Number(pid), key);
  for (const [place, look] of looks) console.log(`${place.padEnd(12)} ${inWords(look)}`);
  return looks.some(([, look]) => look.kind === 'seen' && look.copies > 0) ? 1 : 0;
}

const program = process.argv[1];
if (program !== undefined && pathToFileURL(realpathSync(program)).href === import.meta.url) process.exitCode = main();
