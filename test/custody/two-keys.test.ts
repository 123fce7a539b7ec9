import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { randomKey, startDaemon, type Daemon } from '../support/daemon.ts';
import { chunk, toBytes, type HeaderLines } from '../support/http-bytes.ts';
import { Random, seed } from '../support/random.ts';
import { connect, exchange, rawRequest, type RawRequest } from '../support/raw-client.ts';
import { renewed } from '../support/renewals.ts';
import { scratchFolder } from '../support/scratch.ts';
import { streamHead, startUpstream, type Upstream, type UpstreamRequest } from '../support/upstream.ts';

// For any two keys of one length, everything that a client, another user or a log can observe is the same. Any difference
// found here would let an attacker tell keys apart, and so, in enough steps, read one.

/** How the upstream answers: pieces, each sent when the client has the one before. */
interface Script {
  readonly pieces: readonly (string | Buffer)[];
  readonly ending: 'keep' | 'close' | 'reset';
}

/** What can be observed of the same traffic against one daemon. */
interface Observations {
  readonly answers: string[];
  readonly log: string[];
  readonly auditLog: string;
  readonly files: string[];
  readonly commandLine: string;
  readonly exit: { code: number | null; signal: string | null; stdout: string };
}

const answers = 60;

/** A whole number from 0 to below `end`. */
function below(random: Random, end: number): number {
  return random.whole(0, end - 1);
}

test.for([
  ['alone', () => []],
  ['with everything that reads answers and requests', everything],
  ['with keys that are renewed', renewable],
] as const)('two daemons with different keys cannot be told apart: %s', async ([, args]) => {
  const keys = [randomKey(), randomKey()] as const;
  // What each is renewed with: the other's first key, then one of its own.
  const next = [[keys[1], randomKey()], [keys[0], randomKey()]] as const;
  const [one, other] = [await observe(keys[0], next[0], keys, args), await observe(keys[1], next[1], keys, args)];
  expect(one.answers.length).toBeGreaterThan(args === renewable ? 25 : answers);
  for (const [index, answer] of one.answers.entries()) expect(other.answers[index], `seed ${seed}`).toBe(answer);
  expect(other, `seed ${seed}`).toEqual(one);
});

function renewable(): string[] {
  return ['--renewable-key'];
}

function everything(folder: string): string[] {
  const policy = join(folder, 'policy.json');
  writeFileSync(policy, JSON.stringify({ models: ['gpt-*'], limits: { tokens_per_day: 1_000_000_000 } }));
  const token = join(folder, 'token');
  writeFileSync(token, 'a-token-of-our-own-0123456789abcdef\n', { mode: 0o600 });
  return ['--policy', policy, '--audit-log', join(folder, 'audit.log'), '--client-token-file', token];
}

async function observe(key: string, next: readonly string[], keys: readonly [string, string], args: (folder: string) => readonly string[]): Promise<Observations> {
  const random = new Random(seed);
  const folder = scratchFolder();
  const flags = args(folder);
  const upstream = await startUpstream();
  const info = join(folder, 'info.json');
  const isRenewable = flags.includes('--renewable-key');
  const daemon = await startDaemon({ key, ...(isRenewable ? { stdin: (pipe) => pipe.write(`${key}\n`) } : {}), args: [...upstream.args, '--http-shutdown', '--http-health', '--server-info', info, ...flags] });
  const commandLine = readFileSync(`/proc/${daemon.pid}/cmdline`, 'latin1');
  const withoutNumbers = (text: string): string => text
    .replaceAll(`:${daemon.port}`, ':PORT')
    .replaceAll(`:${upstream.port}`, ':UPSTREAM')
    .replaceAll(`"port":${daemon.port}`, '"port":PORT')
    .replaceAll(`"pid":${daemon.pid}`, '"pid":PID')
    .replaceAll(folder, 'FOLDER')
    .replaceAll(/^(date|x-audit-id): .*$/gim, '$1: ...');
  const filesNow = (): string[] => readdirSync(folder).sort().map((name) => {
    const { mode, size, uid } = statSync(join(folder, name));
    return `${name} ${mode.toString(8)} ${uid} ${name === 'audit.log' || name === 'info.json' ? '' : size}`;
  });

  const seen: string[] = [withoutNumbers(readFileSync(info, 'utf8')), ...filesNow()];
  for (const request of requests(keys, random)) seen.push(await refused(daemon, request));
  for (let i = 0; i < (isRenewable ? 3 : answers); i++) seen.push(await answered(daemon, upstream, script(keys, random)));
  if (isRenewable) seen.push(...(await renewals(daemon, upstream, next, random)));
  seen.push(...filesNow());
  seen.push(await refused(daemon, { method: 'GET', target: '/shutdown', ...authorized }));
  const exit = await daemon.waitForExit();
  return {
    answers: seen.map(withoutNumbers),
    log: withoutNumbers(exit.stderr).split('\n'),
    auditLog: flags.includes('--audit-log') ? recordsOf(join(folder, 'audit.log')) : '',
    files: filesNow(),
    commandLine: withoutNumbers(commandLine),
    exit: { code: exit.code, signal: exit.signal, stdout: exit.stdout },
  };
}

const authorized: { headers: HeaderLines } = { headers: [['Authorization', 'Bearer a-token-of-our-own-0123456789abcdef']] };

/** Renewals between bad lines, each followed by an answer; then the end of stdin. */
async function renewals(daemon: Daemon, upstream: Upstream, next: readonly string[], random: Random): Promise<string[]> {
  const seen: string[] = [];
  for (const [index, key] of next.entries()) {
    daemon.child.stdin?.write(`${key} \n${key.repeat(100)}\n\n${key}${random.pick(['', '\r'])}\n`);
    await renewed(daemon, index + 1);
    seen.push(await answered(daemon, upstream, { pieces: ['HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}'], ending: 'keep' }));
  }
  daemon.child.stdin?.end(next[0]?.slice(0, 20));
  await daemon.waitForStderr(/stdin has ended/);
  return seen;
}

/** Requests that are not forwarded, with either key, or pieces of one, in every place. */
function requests(keys: readonly [string, string], random: Random): RawRequest[] {
  const body = '{"model":"gpt-5"}';
  return keys.flatMap((key) => {
    const piece = key.slice(0, 1 + below(random, key.length));
    return [
      ...[`/v1/${piece}`, `/v1/responses?key=${key}`, `http://${key}@host/`].map((target) => ({ target, body, ...authorized })),
      { method: 'GET', target: '/health', ...authorized },
      { host: piece },
      { headers: [['Origin', `https://${piece.toLowerCase().replaceAll(/[^a-z]/g, '')}.example`]] },
      { headers: [[`x-${key}`, key], ['Transfer-Encoding', piece]] },
      { headers: [['Expect', piece]], body },
      { version: 'HTTP/1.7', body },
      { headers: [['X-Long', key.repeat(500)]], body },
      { method: piece.replaceAll(/[^A-Z]/g, '') || 'X', body },
    ] satisfies RawRequest[];
  });
}

async function refused(daemon: Daemon, request: RawRequest): Promise<string> {
  const response = await exchange(daemon.port, rawRequest(daemon.port, request));
  return `${response.rawHead}${response.text()}`;
}

/** A response of pieces of either key and of other texts, cut at random places, with any framing and ending. */
function script(keys: readonly [string, string], random: Random): Script {
  const [one, other] = keys;
  const text = (): string => {
    const key = below(random, 2) === 0 ? one : other;
    const from = below(random, 3) === 0 ? below(random, key.length) : 0;
    return random.pick([
      key,
      key.slice(from, from + 1 + below(random, key.length - from)),
      'data: {"type":"response.output_text.delta"}\n\n',
      Buffer.from(key.repeat(1 + below(random, 4))).toString('base64'),
      (/[A-Z]/.exec(key)?.[0] ?? 'A').repeat(1 + below(random, 200)),
      `{"model":"gpt-5","usage":{"input_tokens":${below(random, 1000)}}}`,
    ]);
  };
  const texts = Array.from({ length: 1 + below(random, 6) }, text);
  const field = `x-echo: ${random.pick(['none', `Bearer ${one}`, one.slice(0, 20), other])}\r\n`;
  const status = random.pick(['200 OK', '401 Unauthorized', `429 ${random.pick([one, other])}`, '500 Oops']);
  const ending = random.pick(['keep', 'keep', 'keep', 'close', 'reset'] as const);
  switch (below(random, 5)) {
    case 0: {
      const body = gzipSync(texts.join(''));
      return { pieces: [Buffer.concat([toBytes(`HTTP/1.1 ${status}\r\n${field}content-encoding: gzip\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`), body])], ending: 'keep' };
    }
    case 1: {
      const length = texts.join('').length;
      return { pieces: [`HTTP/1.1 ${status}\r\n${field}content-type: application/json\r\ncontent-length: ${ending === 'keep' ? length : length + 9}\r\n\r\n`, ...texts], ending };
    }
    case 2:
      return { pieces: [random.pick([`${one}\r\n\r\n`, `HTTP/1.1 ${other} OK\r\n\r\n`, `HTTP/1.1 200 OK\r\nx ${one}: 1\r\n\r\n`])], ending: 'close' };
    default:
      return { pieces: [`${streamHead(200, [['content-type', 'text/event-stream'], ['x-echo', texts[0]?.replaceAll(/[\r\n]/g, '') ?? '']])}`, ...texts.map((piece) => chunk(piece)), ...(ending === 'keep' ? ['0\r\n\r\n'] : [])], ending };
  }
}

/** One forwarded request. What is observed of it: all bytes, and how many of them had come before the next piece was sent. */
async function answered(daemon: Daemon, upstream: Upstream, { pieces, ending }: Script): Promise<string> {
  upstream.answerWith(() => undefined);
  const before = upstream.requests.length;
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port, { body: '{"model":"gpt-5"}', ...authorized }));
  await upstream.until(() => upstream.requests.length > before, 'the request');
  const request = upstream.requests[before] as UpstreamRequest;
  await request.complete();
  for (const piece of pieces) {
    const have = client.received.length;
    await request.reply(piece);
    await client.until(() => client.received.length > have || client.ending !== undefined, 'the piece');
  }
  if (ending === 'close') request.connection.halfClose();
  if (ending === 'reset') request.connection.reset();
  const response = await client.response();
  client.close();
  request.connection.close();
  return [response.rawHead, response.chunkSizes.join(' '), response.body.toString('latin1'), response.complete, ending === 'keep' ? '' : await client.waitForClose()].join('\n');
}

/** The records, without what differs between any two runs: times, what is charged for them, ids and the chain. */
function recordsOf(file: string): string {
  return readFileSync(file, 'latin1').split('\n').map((line) => line.replaceAll(/"(time|id|head_ms|total_ms|charged|prev|hash)":("[^"]*"|[\d.]+),?/g, '')).join('\n');
}
