// The daemon at work, in a few seconds: needs no key and no network. Exits with 1 if anything is not as promised.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { styleText } from 'node:util';

import { inWords, lookEverywhere } from './custody-probe.ts';
import type { Look } from './custody-probe.ts';
import { startDaemon } from './daemon.ts';
import type { Daemon } from './daemon.ts';
import { runProgram } from './program.ts';
import { maskKey, startStandIn } from './stand-in-upstream.ts';
import type { RecordedRequest, StandIn } from './stand-in-upstream.ts';
import { makeTemporaryFolder } from './temporary-folder.ts';

interface Answer {
  readonly status: number;
  /** The head and the body, as text. */
  readonly text: string;
  readonly body: string;
  /** When each event of a stream was complete, by `performance.now()`. */
  readonly events: readonly ArrivedEvent[];
  /** The names of the headers that were sent. */
  readonly sentHeaders: readonly string[];
}

interface ArrivedEvent {
  readonly type: string;
  readonly delta: string | undefined;
  readonly atMs: number;
}

const timeoutMs = 30_000;
const eventDelayMs = 70;
const doors = [['GET', '/v1/models'], ['POST', '/v1/responses?store=true'], ['DELETE', '/v1/files/file-1']] as const;
const key = `sk-demo-${randomBytes(18).toString('base64url')}`;
/** Six words: with the first and the last event, the stream has eight lines. */
const words = 'You got this without a key.';
const isRoot = process.getuid?.() === 0;

/** What people do without the daemon: the key is in the environment, and goes into a header. Then it only stays there. */
const carelessClient = `
await fetch(process.argv[1], {
  method: 'POST',
  headers: { authorization: 'Bearer ' + process.env.OPENAI_API_KEY, 'content-type': 'application/json' },
  body: '{"model":"stand-in","input":"hello"}',
}).then((answer) => answer.text());
console.log('answered');
setInterval(() => {}, 60_000);
`;

const color = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
const style = (format: 'bold' | 'dim' | 'red', text: string): string => (color ? styleText(format, text) : text);
const say = (text = ''): void => { console.log(text === '' ? '' : `   ${text}`); };
const chapter = (title: string): void => { console.log(`\n${style('bold', title)}`); };

const broken: string[] = [];
/** Notes that something is not as promised, and goes on: what follows may tell why. */
function promise(kept: boolean, text: string): void {
  if (kept) return;
  broken.push(text);
  say(style('red', `not as promised: ${text}`));
}

/** What was seen, for the last lines. */
const shown: string[] = [];

async function main(): Promise<number> {
  console.log(style('bold', 'responses-api-proxy') + style('dim', ': a demonstration with a throwaway key, on this machine alone'));

  const folder = makeTemporaryFolder('responses-api-proxy-demo-');
  const serverInfo = join(folder.path, 'server-info.json');
  const standIn = await startStandIn({ key, eventDelayMs });
  chapter('An upstream of our own');
  say(`${standIn.url}, TLS, with a CA made just now`);
  say(`accepts one key: ${maskKey(key)}`);

  chapter('The daemon takes the key from a pipe');
  say(style('dim', `printenv KEY | responses-api-proxy --http-shutdown --server-info FILE \\`));
  say(style('dim', `  --upstream-url ${standIn.url} --upstream-ca FILE`));
  const startedAt = performance.now();
  const daemon = await startDaemon({ key, upstreamUrl: standIn.url, upstreamCa: standIn.caFile, serverInfo });
  say(`listening on 127.0.0.1:${daemon.port} as process ${daemon.pid}, ${since(startedAt)} after its start`);

  await streamOneAnswer(daemon, standIn);
  await knockOnOtherDoors(daemon, standIn);
  await lookInside(daemon, standIn);
  await stop(daemon, serverInfo);
  await standIn.close();

  console.log();
  if (broken.length > 0) {
    console.log(style('red', broken.length === 1 ? 'One thing was not as promised.' : `${broken.length} things were not as promised.`));
    console.log(`The daemon said:\n${daemon.said()}`);
    return 1;
  }
  console.log(style('bold', 'You have seen:'));
  for (const point of shown) say(point);
  return 0;
}

async function streamOneAnswer(daemon: Daemon, standIn: StandIn): Promise<void> {
  chapter('A client without a key asks, and the answer streams');
  say(style('dim', 'ms since the request (and since the upstream wrote it), for some events'));
  const startedAt = performance.now();
  let position = 0;
  const answer = await ask(daemon, 'POST', '/v1/responses', ({ type, delta, atMs }) => {
    const written = standIn.requests[0]?.events[position]?.atMs ?? atMs;
    position += 1;
    if (delta === undefined && !['response.created', 'response.completed'].includes(type)) return;
    const lag = style('dim', `(+${(atMs - written).toFixed(1)})`);
    say(`${(atMs - startedAt).toFixed(0).padStart(6)} ${lag}  ${type}${delta === undefined ? '' : `  ${style('bold', JSON.stringify(delta))}`}`);
  });

  const received: RecordedRequest | undefined = standIn.requests[0];
  const text = answer.events.map(({ delta }) => delta ?? '').join('');
  const firstArrival = answer.events[0]?.atMs ?? Infinity;
  promise(answer.status === 200, `the answer has status 200, not ${answer.status}`);
  promise(text === words, `the answer reads ${JSON.stringify(words)}, not ${JSON.stringify(text)}`);
  promise(answer.events.length === received?.events.length, 'every event of the upstream arrives');
  promise(firstArrival < (received?.events.at(-1)?.atMs ?? 0), 'the first event arrives before the last is written');

  say();
  const gotKey = received?.headers.authorization === `Bearer ${key}`;
  say(`the client sent    ${answer.sentHeaders.join(', ')}; no Authorization`);
  say(`the upstream got   Authorization: ${gotKey ? `Bearer ${maskKey(key)}` : 'something else'}`);
  promise(!answer.sentHeaders.some((name) => name.toLowerCase() === 'authorization'), 'the client sends no Authorization');
  promise(gotKey, 'the upstream gets the key');
  promise(!answer.text.includes(key), 'the key does not come back');
  shown.push('an answer to a client without a key, passed on event by event');
}

async function knockOnOtherDoors(daemon: Daemon, standIn: StandIn): Promise<void> {
  chapter('Nothing else is let through');
  const before = standIn.requests.length;
  const messages = new Set<string>();
  for (const [method, target] of doors) {
    const { status, body } = await ask(daemon, method, target);
    const message = messageOf(body);
    say(`${`${method} ${target}`.padEnd(30)} → ${status}`);
    promise(status === 403, `${method} ${target} is refused with 403`);
    promise(message !== undefined, 'the refusal says what is allowed');
    messages.add(message ?? '');
  }
  for (const message of messages) say(`"${message}"`);
  promise(standIn.requests.length === before, 'the upstream hears nothing of a refused request');
  shown.push(`${doors.length} other requests, refused before the upstream heard of them`);
}

async function lookInside(daemon: Daemon, standIn: StandIn): Promise<void> {
  chapter(`We look for the key from outside, as ${isRoot ? 'root' : 'the user who started all of this'}`);
  const client = spawn(process.execPath, ['--input-type=module', '--eval', carelessClient, standIn.url], {
    env: { OPENAI_API_KEY: key, NODE_EXTRA_CA_CERTS: standIn.caFile },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.on('exit', () => client.kill('SIGKILL'));
  await once(client.stdout, 'data');
  say('In a program that got it in its environment, and asked the upstream once:');
  const found = copiesIn(client.pid ?? 0);
  promise(found > 0, 'the key is found where it is');
  client.kill('SIGKILL');

  say('In the daemon:');
  const kept = copiesIn(daemon.pid);
  promise(kept === 0, 'the daemon shows no copy of the key');
  shown.push(`${found} copies of the key in a program that got it, and ${isRoot ? `${kept} in the daemon` : 'a daemon closed to you'}`);
  if (!isRoot) shown.push('  (root sees into it: sudo "$(command -v node)" --import tsx scripts/demo.ts)');
}

/** Says what can be seen of a process, and how many copies of the key are there: those in the environment are also in memory. */
function copiesIn(pid: number): number {
  const looks: ReadonlyArray<readonly [string, Look]> = lookEverywhere(pid, key);
  for (const [place, look] of looks) say(`  ${place.padEnd(12)} ${inWords(look)}`);
  return Math.max(...looks.map(([, look]) => (look.kind === 'seen' ? look.copies : 0)));
}

async function stop(daemon: Daemon, serverInfo: string): Promise<void> {
  chapter('It stops when asked');
  const answer = await ask(daemon, 'GET', '/shutdown');
  const startedAt = performance.now();
  const { code, signal } = await daemon.exited;
  const trace = existsSync(serverInfo) ? 'server-info is still there' : 'server-info is gone';
  say(`GET /shutdown → ${answer.status}; exit code ${code ?? signal}, ${since(startedAt)} later; ${trace}`);
  promise(answer.status === 200, 'GET /shutdown is answered with 200');
  promise(code === 0, 'the exit code is 0');
  promise(!existsSync(serverInfo), 'server-info is removed');
  shown.push('a stop that leaves nothing behind');
}

/** Sends one request as a client that knows nothing but the daemon's port. */
async function ask(daemon: Daemon, method: string, target: string, onEvent: (event: ArrivedEvent) => void = () => {}): Promise<Answer> {
  const body = method === 'POST' ? JSON.stringify({ model: 'stand-in', input: `[stand-in: text ${words}]`, stream: true }) : '';
  const request = httpRequest({ host: '127.0.0.1', port: daemon.port, method, path: target });
  if (body !== '') request.setHeader('Content-Type', 'application/json');
  const answered = new Promise<IncomingMessage>((resolve, reject) => { request.once('response', resolve).once('error', reject); });
  request.end(body);
  const response = await answered;

  const events: ArrivedEvent[] = [];
  let text = '';
  let pending = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
    text += chunk;
    const blocks = (pending + chunk).split('\n\n');
    pending = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = /^data: (.+)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      const { type, delta } = JSON.parse(data) as { type: string; delta?: string };
      const event = { type, delta, atMs: performance.now() };
      events.push(event);
      onEvent(event);
    }
  }
  return {
    status: response.statusCode ?? 0,
    text: `${response.rawHeaders.join('\n')}\n${text}`,
    body: text,
    events,
    sentHeaders: request.getRawHeaderNames(),
  };
}

/** The message in OpenAI's error envelope, if that is what the body is. */
function messageOf(body: string): string | undefined {
  try {
    return (JSON.parse(body) as { error?: { message?: string } }).error?.message;
  } catch {
    return undefined; // No JSON, so no envelope.
  }
}

function since(startedAt: number): string {
  return `${(performance.now() - startedAt).toFixed(0)} ms`;
}

runProgram('demo', timeoutMs, main);
