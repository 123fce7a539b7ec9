import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { textAnswer } from '../stand-in-answers.ts';
import type { JsonObject } from '../stand-in-steps.ts';

/** What the Codex CLI asks in one turn, as it was recorded (55 KB), and what it is answered: in files, for the upstream and for wrk. */
export interface CodexExchange {
  readonly requestFile: string;
  readonly answerFile: string;
  readonly request: Buffer;
  /** The events, as the client gets them. */
  readonly answer: string;
}

const recordedFile = fileURLToPath(new URL('../../test/extras/fixtures/codex-request.json', import.meta.url));

/** @param folder where the answer is written to */
export function codexExchange(folder: string): CodexExchange {
  const request = readFileSync(recordedFile);
  const { events } = textAnswer(JSON.parse(request.toString('utf8')) as JsonObject, 'The message has come through.', true);
  const answer = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('');
  const answerFile = join(folder, 'codex-answer.txt');
  writeFileSync(answerFile, answer);
  return { requestFile: recordedFile, answerFile, request, answer };
}

const policyFile = fileURLToPath(new URL('../policies/codex.json', import.meta.url));

/** The policy that the README shows for Codex, with limits that count as always but that no bench reaches. Returns its file. */
export function policyWithoutLimits(folder: string): string {
  const policy = JSON.parse(readFileSync(policyFile, 'utf8')) as JsonObject;
  const file = join(folder, 'policy.json');
  writeFileSync(file, JSON.stringify({ ...policy, limits: { concurrent: 8, requests_per_minute: 100_000, tokens_per_day: 1e15 } }));
  return file;
}
