import { readFileSync, readdirSync, readlinkSync } from 'node:fs';

/** A piece of a process's address space, by /proc/PID/smaps. */
export interface Mapping {
  readonly from: bigint;
  readonly to: bigint;
  /** `rw-p` and the like. */
  readonly permissions: string;
  readonly name: string;
  /** The two-letter VmFlags: `lo` locked, `dd` not dumped, `dc` not copied on fork, ... */
  readonly flags: readonly string[];
}

/** The mappings of a process; as root, or of a process that lets its own user look. */
export function mappingsOf(pid: number): Mapping[] {
  const mappings: Mapping[] = [];
  const header = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)\n(?:[A-Z].*\n)*?VmFlags: (.*)$/gm;
  for (const [, from, to, permissions = '', name = '', flags = ''] of readFileSync(`/proc/${pid}/smaps`, 'latin1').matchAll(header)) {
    mappings.push({ from: BigInt(`0x${from}`), to: BigInt(`0x${to}`), permissions, name, flags: flags.trim().split(' ') });
  }
  return mappings;
}

/** Mappings that are locked into memory; those that follow each other without a gap count as one. */
export function lockedAreasOf(pid: number): Mapping[] {
  return mappingsOf(pid).filter(({ flags }) => flags.includes('lo'));
}

/** One field of /proc/PID/status. */
export function statusOf(pid: number, field: string): string {
  return fieldOf(`/proc/${pid}/status`, field);
}

/** The same field for each thread. */
export function statusOfThreads(pid: number, field: string): string[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => fieldOf(`/proc/${pid}/task/${thread}/status`, field));
}

function fieldOf(file: string, field: string): string {
  const value = new RegExp(`^${field}:[ \\t]*(.*)$`, 'm').exec(readFileSync(file, 'latin1'))?.[1];
  if (value === undefined) throw new Error(`${file} has no ${field}`);
  return value.trim();
}

/** Whether a started daemon is hardened and asleep: it waits for its key. */
export function isAwaitingKey({ pid }: { readonly pid: number }): boolean {
  return !statusOf(pid, 'VmLck').startsWith('0 ') && statusOf(pid, 'State').startsWith('S');
}

/** The environment that a process was started with; as root. */
export function environmentOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').filter((entry) => entry !== '');
}

/** The TCP ports, IPv4 and IPv6, on which a process listens; as root. */
export function listeningPortsOf(pid: number): number[] {
  const inodes = new Set(openFilesOf(pid).flatMap(({ target }) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []));
  const listening = '0A';
  const ports = ['tcp', 'tcp6'].flatMap((table) => {
    const [, ...rows] = readFileSync(`/proc/${pid}/net/${table}`, 'latin1').trim().split('\n');
    return rows.flatMap((row) => {
      const [, local = '', , state, , , , , , inode = ''] = row.trim().split(/\s+/);
      return state === listening && inodes.has(inode) ? [Number.parseInt(local.split(':')[1] ?? '', 16)] : [];
    });
  });
  return ports.sort((a, b) => a - b);
}

export interface OpenFile {
  readonly descriptor: number;
  /** What /proc/PID/fd/N points to. */
  readonly target: string;
  readonly isWritable: boolean;
}

/** The open descriptors of a process; as root. */
export function openFilesOf(pid: number): OpenFile[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((entry) => {
    try {
      const flags = Number.parseInt(/^flags:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${entry}`, 'latin1'))?.[1] ?? '0', 8);
      return [{ descriptor: Number(entry), target: readlinkSync(`/proc/${pid}/fd/${entry}`), isWritable: (flags & 3) !== 0 }];
    } catch {
      return []; // closed since
    }
  });
}
