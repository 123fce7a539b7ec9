import { readFileSync, readdirSync } from 'node:fs';
import { defaultWaitMs } from './wait.ts';

export const mebibyte = 1024 * 1024;

/** Resident memory of a process, in bytes: now, and the most it ever had. */
export function memoryOf(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
  return { now: bytes('VmRSS'), peak: bytes('VmHWM') };
}

/** USER_HZ, in which /proc counts CPU time, is 100 wherever Linux runs. */
const tickMs = 10;

/** CPU time that a process has used, user and system, in milliseconds. */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
}

/** How many descriptors a process has open; undefined where we may not look (a process that is not dumpable, seen by a plain user). */
export function descriptorsOf(pid: number): number | undefined {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return undefined;
  }
}

/** A TCP connection over IPv4, seen from the end with the port `local`. */
export interface KernelConnection {
  readonly local: number;
  readonly remote: number;
  /** Bytes it sent that the other side has not acknowledged. */
  readonly unsent: number;
  /** Bytes received that its process has not read. */
  readonly unread: number;
}

/** All established connections. Every user may look, even at those of processes that hide the rest. */
export function establishedConnections(): KernelConnection[] {
  return connectionsIn('01');
}

/** Whether there is a connection between these ports whose FIN the other side has not acknowledged (FIN-WAIT-1). */
export function hasWaitingFin(local: number, remote: number): boolean {
  return connectionsIn('04').some((connection) => connection.local === local && connection.remote === remote);
}

/** Whether a connection to `port` is being made and has had no answer (SYN-SENT). */
export function isConnecting(port: number): boolean {
  return connectionsIn('02').some(({ remote }) => remote === port);
}

/** How many connections to `port` were closed by the side that listens there and not yet by the other (CLOSE-WAIT). */
export function connectionsClosedByPeer(port: number): number {
  return connectionsIn('08').filter(({ remote }) => remote === port).length;
}

/** @param wanted a TCP state as the kernel numbers it, see include/net/tcp_states.h */
function connectionsIn(wanted: string): KernelConnection[] {
  const line = new RegExp(`:(\\w{4}) \\w{8}:(\\w{4}) ${wanted} (\\w{8}):(\\w{8}) `, 'g');
  return [...readFileSync('/proc/net/tcp', 'latin1').matchAll(line)].map(([, ...fields]) => {
    const [local = 0, remote = 0, unsent = 0, unread = 0] = fields.map((digits) => Number.parseInt(digits, 16));
    return { local, remote, unsent, unread };
  });
}

/** How many connections to `port` are established, counted at the end that made them. */
export function establishedTo(port: number): number {
  return establishedConnections().filter(({ remote }) => remote === port).length;
}

/** How often a process or the kernel is looked at that announces no changes, in milliseconds. The kernel's table of connections takes 10 to read where thousands have just ended. */
export const pollMs = 50;

/** Waits until `condition` holds. Polls: the kernel announces no such change. */
export async function eventually(condition: () => boolean, what: () => string, timeoutMs = defaultWaitMs): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
