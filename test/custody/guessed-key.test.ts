import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { chunk } from '../support/http-bytes.ts';
import { startBoth, type Proxied } from '../support/proxied.ts';
import { connect, type RawResponse } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { streamHead } from '../support/upstream.ts';

/** The beginning of every key, and the characters that follow. */
const known = 'sk-proj-';
const alphabet = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'];

/**
 * The real API repeats a request's `instructions` in its first event, so a client can choose text in a response, and
 * an upstream may end a chunk after it. This one repeats each guess in a separate chunk.
 */
async function echo(both: Proxied, token: string | undefined, guesses: readonly string[]): Promise<RawResponse> {
  const client = await connect(both.daemon.port);
  await client.send(both.rawRequest({ headers: token === undefined ? [] : [['Authorization', `Bearer ${token}`]], body: JSON.stringify({ instructions: guesses }) }));
  const request = await both.nextRequest();
  const { instructions } = JSON.parse((await request.complete()).body.toString()) as { instructions: string[] };
  await request.reply(streamHead());
  for (const guess of instructions) await request.reply(chunk(`data: ${guess}`));
  await request.reply('0\r\n\r\n');
  const response = await client.response();
  client.close();
  return response;
}

/** What a client can see of each guess: how many bytes before its end the last chunk ended, 0 where the guess ended one. */
function seen({ chunkSizes }: RawResponse, guesses: readonly string[]): number[] {
  let received = 0;
  const chunkEnds = chunkSizes.map((size) => (received += size));
  let sent = 0;
  return guesses.map((guess) => {
    sent += `data: ${guess}`.length;
    return sent - Math.max(0, ...chunkEnds.filter((end) => end <= sent));
  });
}

/** Reads the key, one character per request, as long as one guess is held back entirely. */
async function attack(both: Proxied, token: string | undefined, length: number): Promise<string> {
  let read = known;
  while (read.length < length) {
    const guesses = alphabet.map((character) => `${read}${character}`);
    const held = seen(await echo(both, token, guesses), guesses);
    const right = guesses.filter((guess, index) => held[index] === guess.length);
    if (right.length !== 1) break;
    read = right[0] ?? read;
  }
  return read;
}

/** Flags for all parts of the daemon that read responses, and a token. */
function everything(): string[] {
  const file = (name: string): string => join(scratchFolder(), name);
  const policy = file('policy.json');
  writeFileSync(policy, JSON.stringify({ limits: { tokens_per_day: 1_000_000_000 } }));
  return ['--audit-log', file('audit.log'), '--policy', policy, '--issue-token', '--server-info', file('info.json')];
}

test.for([
  ['as it is started', () => []],
  ['with audit log, policy and token', everything],
] as const)('a client that guesses at the key and looks where the pieces of an echo end learns nothing, %s', async ([, args]) => {
  const flags = args();
  const both = await startBoth({ args: flags });
  const token = flags.length === 0 ? undefined : (JSON.parse(readFileSync(flags.at(-1) ?? '', 'utf8')) as { token: string }).token;
  expect(await attack(both, token, both.daemon.key.length)).toBe(known);
  // Nor do guesses differ in any other way.
  const guesses = alphabet.map((character) => `${both.daemon.key.slice(0, 40)}${character}`);
  expect(new Set(seen(await echo(both, token, guesses), guesses))).toEqual(new Set([0]));
});
