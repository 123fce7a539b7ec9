import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { fileURLToPath } from 'node:url';

import { runCommand } from '../command.ts';
import type { CodexExchange } from './codex-exchange.ts';
import type { Target } from './peers.ts';
import { cpuSeconds } from './process.ts';
import { Client, answerTo } from './transfers.ts';

/** What one run of small requests brought. */
export interface RequestFigures {
  readonly requests: number;
  readonly perSecond: number;
  /** CPU time of the peer per request, in microseconds; NaN where nobody is measured. */
  readonly cpuUs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

interface WrkReport {
  readonly requests: number;
  readonly seconds: number;
  readonly bytes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Answers that are not 2xx or 3xx. */
  readonly refused: number;
  /** Requests without an answer. */
  readonly broken: number;
}

const checkedRequests = 20;
const script = fileURLToPath(new URL('requests.lua', import.meta.url));
// wrk's last requests may have begun to be answered when it stops, and their bytes count.
const sizeTolerance = 0.01;

/** What wrk posts. */
export interface RequestLoad {
  readonly connections: number;
  /** So many bytes, or a file: see requests.lua. */
  readonly body: number | string;
  readonly seconds: number;
}

/**
 * Lets wrk post for some whole seconds.
 *
 * @param pids whose CPU time is measured
 * @param answerBytes how long a right answer is with its head, as `checkAnswers` found; every answer must be. undefined: nobody looks
 * @throws where an answer was wrong or missing
 */
export async function runRequests(
  target: Target, load: RequestLoad, pids: readonly number[], answerBytes: number | undefined,
): Promise<RequestFigures> {
  const before = cpuSeconds(pids);
  const wrk = await runCommand('wrk', [
    '-t', '1', '-c', String(load.connections), '-d', `${load.seconds}s`, '--latency', '-s', script,
    `${target.protocol}//127.0.0.1:${target.port}/v1/responses`, '--', String(load.body), ...(target.token === undefined ? [] : [target.token]),
  ], { cwd: '/', env: { PATH: process.env['PATH'] }, timeoutMs: load.seconds * 1000 + 10_000 });
  const cpu = cpuSeconds(pids) - before;
  const line = wrk.stdout.split('\n').find((text) => text.startsWith('{"requests"'));
  if (wrk.code !== 0 || line === undefined) throw new Error(`wrk failed: ${wrk.stderr.trim() || wrk.stdout.trim()}`);
  const report = JSON.parse(line) as WrkReport;
  if (report.refused > 0 || report.broken > 0) throw new Error(`of ${report.requests} requests ${report.refused} were refused and ${report.broken} had no answer`);
  const meanBytes = report.bytes / report.requests;
  if (answerBytes !== undefined && Math.abs(meanBytes - answerBytes) > Math.max(answerBytes * sizeTolerance, answerBytes * load.connections / report.requests)) {
    throw new Error(`answers of ${meanBytes.toFixed(1)} bytes, where ${answerBytes} are right`);
  }
  return {
    requests: report.requests,
    perSecond: report.requests / report.seconds, cpuUs: pids.length === 0 ? Number.NaN : cpu / report.requests * 1e6, p50Ms: report.p50Ms, p99Ms: report.p99Ms, maxMs: report.maxMs,
  };
}

/**
 * Posts to the upstream and compares every answer with what it must be.
 *
 * @returns how long an answer to a small request is, with its head
 */
export async function checkAnswers(target: Target): Promise<number> {
  const client = new Client(target);
  let answerBytes = 0;
  for (const bodyBytes of [55 * 1024, 1024]) {
    for (let i = 0; i < checkedRequests; i += 1) {
      const { text, type, wireBytes } = await client.post(bodyBytes);
      assert.equal(text, answerTo(bodyBytes), 'an answer');
      assert.equal(type, 'application/json', 'the type of an answer');
      answerBytes = wireBytes;
    }
  }
  client.close();
  return answerBytes;
}

/** Sends Codex's request and compares what comes back. */
export async function checkCodexAnswer(target: Target, { request, answer }: CodexExchange): Promise<void> {
  const client = new Client(target);
  const req = client.open(request.length, 'codex');
  req.end(request);
  const [res] = await (once(req, 'response') as Promise<[IncomingMessage]>);
  let text = '';
  for await (const piece of res.setEncoding('utf8') as AsyncIterable<string>) text += piece;
  client.close();
  assert.equal(res.statusCode, 200, `status, with ${text.slice(0, 200)}`);
  assert.equal(text, answer, "the answer to Codex's request");
}
