import { readFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import { auditCommand } from '../../src/extras/audit/audit-command.ts';
import { AuditLog, type AuditLogOptions } from '../../src/extras/audit/audit-log.ts';
import type { AuditRecord } from '../../src/extras/audit/audit-record.ts';
import { type Fault, type FileVerdict, checkFile } from '../../src/extras/audit/audit-verify.ts';
import { Failure } from '../../src/run/failure.ts';
import { cleanUp } from './cleanup.ts';

export const endpoint = '/v1/responses';

/** What the daemon's options are for a log in `file`; what it would tell its user goes to `said`. */
export function logOptions(file: string, said: string[] = []): AuditLogOptions {
  return { file, endpoint, owner: undefined, lock: () => true, report: (message) => said.push(message) };
}

/** What `audit verify` says of a file, and of its first fault. */
export async function verdictOn(file: string): Promise<FileVerdict & Partial<Fault> & { readonly ok: boolean }> {
  const verdict = await checkFile(file);
  return { ok: verdict.faults.length === 0, ...verdict, ...verdict.faults[0] };
}

/** The records of requests that have ended. */
export function requestsOf(file: string): Array<Record<string, unknown>> {
  return linesOf(file).filter(({ kind }) => kind === 'request');
}

/** An open log that has started; it is closed with the test. */
export function openLog(file: string, said: string[] = []): AuditLog {
  const log = new AuditLog(logOptions(file, said));
  log.start();
  cleanUp(() => log.close());
  return log;
}

/** A record with everything in it, but for what is given. */
export function record(given: Partial<AuditRecord> = {}): AuditRecord {
  return {
    time: Date.UTC(2026, 0, 31, 12),
    id: '0123456789abcdef',
    uid: 1000,
    method: 'POST',
    target: endpoint,
    decision: 'allowed',
    rule: undefined,
    model: 'gpt-5',
    stream: true,
    status: 200,
    bytesUp: 55_000,
    bytesDown: 12_000,
    headMs: 123.456,
    totalMs: 2345.678,
    ended: 'complete',
    unreadEncoding: undefined,
    upstreamRequestId: 'req_0123456789abcdef0123456789abcdef',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    usage: { input: 1200, cached: 1024, output: 300, reasoning: 64, total: 1500 },
    ...given,
  };
}

/** The records of a log as objects, without the lines that are torn. */
export function linesOf(file: string): Array<Record<string, unknown>> {
  return readFileSync(file, 'latin1').split('\n').filter((line) => line.endsWith('"}')).map((line) => JSON.parse(line) as Record<string, unknown>);
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  /** What it told its user beside the output: the failure's message, if it failed. */
  readonly said: string[];
}

/** Runs `responses-api-proxy audit ...` in this process. */
export async function audit(...argv: readonly string[]): Promise<CommandResult> {
  let stdout = '';
  const said: string[] = [];
  const sink = new Writable({
    decodeStrings: false,
    write(text: string, _encoding, done) {
      stdout += text;
      done();
    },
  });
  try {
    const code = await auditCommand(argv, { stdout: sink, say: (message) => said.push(message) });
    return { code, stdout, said };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { code: error.exitCode, stdout, said: [...said, error.message] };
  }
}
