import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import type { Target } from './peers.ts';
import { cpuSeconds, residentBytes } from './process.ts';

export interface StreamLoad {
  readonly streams: number;
  /** Per stream. */
  readonly events: number;
  /** From one event of a stream to its next. */
  readonly intervalMs: number;
  /** How fast the streams are opened; undefined: at once, and each begins as soon as it is open. */
  readonly opensPerSecond: number | undefined;
}

/** What one run of event streams brought. */
export interface StreamFigures {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** CPU time of the peer, in microseconds, while all streams are open. */
  readonly cpuUsPerEvent: number;
  /** CPU time of the peer, in microseconds, to open a stream. */
  readonly cpuUsPerStream: number;
  /** Resident memory with all streams open, less that before, for each. */
  readonly bytesPerStream: number;
  /** How late the upstream itself was. */
  readonly upstreamLateP99Ms: number;
  /** From a request to its first event, where streams begin at once. */
  readonly firstEventMs: number;
  /** Streams whose requests did not reach the upstream in time. */
  readonly lateStreams: number;
}

type LoadReport = Omit<StreamFigures, 'cpuUsPerEvent' | 'cpuUsPerStream' | 'bytesPerStream'> & { readonly events: number };

const openAtOnce = 0;
const tooSlowExitCode = 2;

/** This machine was too busy to open the streams in time: nobody's fault, and worth another try. */
export class TooBusy extends Error {}

/**
 * Opens streams to a target, reads them to their end and checks every byte.
 *
 * @param program the compiled load.c
 * @param pids whose CPU time and memory are measured
 * @throws where a stream was not as it should be
 * @throws {TooBusy}
 */
export async function runStreams(program: string, target: Target, load: StreamLoad, pids: readonly number[]): Promise<StreamFigures> {
  const residentBefore = residentBytes(pids);
  const cpuBefore = cpuSeconds(pids);
  const child = spawn(program, [
    target.port, target.protocol === 'https:' ? 'tls' : 'plain', load.streams, load.events, Math.round(load.intervalMs * 1000),
    load.opensPerSecond ?? openAtOnce, ...(target.token === undefined ? [] : [target.token]),
  ].map(String), { stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = once(child, 'close') as Promise<[number | null]>;
  closed.catch(() => {}); // Awaited below.
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => { complaint += text; });
  let cpuAtBegin = cpuBefore;
  let cpuAtEnd = cpuBefore;
  let residentAtEnd = residentBefore;
  let report: LoadReport | undefined;
  for await (const line of createInterface(child.stdout)) {
    if (line === 'begin') cpuAtBegin = cpuSeconds(pids);
    else if (line === 'end') {
      cpuAtEnd = cpuSeconds(pids);
      residentAtEnd = residentBytes(pids);
    } else report = JSON.parse(line) as LoadReport;
  }
  if (pids.length === 0) cpuAtEnd = cpuAtBegin = residentAtEnd = Number.NaN; // nobody is measured
  const [code] = await closed;
  if (code === tooSlowExitCode) throw new TooBusy(complaint.trim());
  if (code !== 0 || report === undefined) throw new Error(complaint.trim() || 'the client of the streams failed');
  const { events, ...figures } = report;
  return {
    ...figures,
    cpuUsPerEvent: (cpuAtEnd - cpuAtBegin) / events * 1e6,
    cpuUsPerStream: (cpuAtBegin - cpuBefore) / load.streams * 1e6,
    bytesPerStream: (residentAtEnd - residentBefore) / load.streams,
  };
}
