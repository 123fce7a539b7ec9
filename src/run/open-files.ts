import { readFileSync, readdirSync } from 'node:fs';
import { Failure } from './failure.ts';

/** Connections at once, where so many fit. */
const mostConnections = 1024;

/** An exchange holds its client's socket and the upstream's. */
const filesPerConnection = 2;

/** Files that are open for a moment, besides connections: looking a name up, rotating a log, a connection about to be refused. */
const reservedFiles = 16;

/**
 * Fits the number of connections into the number of files that may be open (RLIMIT_NOFILE). Node has raised the soft limit
 * to the hard one when it started. Beyond it the kernel refuses sockets: clients would be reset, or lose their upstream.
 *
 * To be called once everything is open that stays open.
 *
 * @returns how many there is room for, and what to tell of it where they are fewer than usual
 * @throws {Failure} when there is not even room for one
 */
export function fitConnections(): { maxConnections: number; lowered?: Pick<Failure, 'message' | 'hint'> } {
  const limit = Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? Infinity);
  const open = readdirSync('/proc/self/fd').length;
  const fitting = Math.floor((limit - open - reservedFiles) / filesPerConnection);
  if (fitting >= mostConnections) return { maxConnections: mostConnections };
  const hint = `raise the limit to ${open + reservedFiles + mostConnections * filesPerConnection} (ulimit -n; in a systemd unit LimitNOFILE=)`;
  if (fitting < 1) throw new Failure(`no room for a connection: at most ${limit} files can be open (RLIMIT_NOFILE)`, { hint });
  return { maxConnections: fitting, lowered: { message: `at most ${fitting} connections at once: only ${limit} files can be open (RLIMIT_NOFILE)`, hint } };
}
