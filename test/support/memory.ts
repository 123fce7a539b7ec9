import { lockedAreasOf } from './process.ts';
import { nativeTool, runTool } from './native-tools.ts';

/** A place in a process's memory that has at least 16 bytes in a row of a secret. */
export interface Find {
  readonly form: 'plain' | 'utf16' | 'base64';
  /** Where the find begins. */
  readonly offset: string;
  /** How many bytes of the secret (in that form) are there. */
  readonly bytes: number;
  readonly whole: boolean;
  readonly mapping: string;
}

export interface Scan {
  readonly bytesRead: number;
  /** Pages that the kernel refuses to read, such as those of memfd_secret(2). */
  readonly unreadablePages: number;
  readonly found: readonly Find[];
}

/** Reads all of a process's memory, as root, in search of `secret`. `standing`: the process is stopped meanwhile. */
export async function scanMemory(pid: number, secret: string, { standing = true }: { standing?: boolean } = {}): Promise<Scan> {
  const program = await nativeTool('memory-scan', ['-std=c11', '-D_GNU_SOURCE']);
  const { code, stdout, stderr } = await runTool(program, [...(standing ? ['--stop'] : []), String(pid)], { input: `${secret}\n` });
  if (code !== 0) throw new Error(`memory-scan: ${stderr}`);
  return JSON.parse(stdout) as Scan;
}

/** The finds that lie outside the process's locked memory. */
export function outsideLockedMemory(pid: number, found: readonly Find[]): Find[] {
  const areas = lockedAreasOf(pid);
  return found.filter(({ offset }) => !areas.some(({ from, to }) => BigInt(offset) >= from && BigInt(offset) < to));
}
