import { readFileSync } from 'node:fs';

// USER_HZ, which proc(5) counts CPU time in; 100 wherever Linux runs.
export const ticksPerSecond = 100;
const pageBytes = 4096;

/** A process and all its descendants. */
export function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter((text) => text !== '').map(Number);
  return [pid, ...children.flatMap(familyOf)];
}

/** CPU time in seconds, user and system, of processes with all their threads, also those that have ended. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the name, in brackets, and may hold anything. utime, stime, cutime and cstime are fields 14 to 17.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    for (const field of fields.slice(11, 15)) ticks += Number(field);
  }
  return ticks / ticksPerSecond;
}

/** Resident memory in bytes; pages that processes share are counted for each. */
export function residentBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]) * pageBytes, 0);
}

/** Looks at the memory of processes until it is told to stop. */
export function watchMemory(pids: readonly number[], intervalMs: number): { stop(): number } {
  let most = residentBytes(pids);
  const timer = setInterval(() => { most = Math.max(most, residentBytes(pids)); }, intervalMs);
  return {
    stop() {
      clearInterval(timer);
      return Math.max(most, residentBytes(pids));
    },
  };
}
