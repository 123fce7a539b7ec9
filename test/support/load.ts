import http from 'node:http';
import net from 'node:net';
import type tls from 'node:tls';
import { credentialHeaders } from './credentials.ts';
import { chunk, chunked, type HeaderLines } from './http-bytes.ts';
import { answer, startUpstream, streamHead, type UpstreamRequest } from './upstream.ts';
import { defaultWaitMs } from './wait.ts';

/**
 * What happens in one exchange:
 * - `json`, `unauthorized`: the upstream reads the body and answers 200 or 401;
 * - `stream`: it answers with server-sent events, one at a time;
 * - `too large`: it answers 413 before the upload is over;
 * - `reset`, `cut`: it resets the connection before its answer, or in the middle of it;
 * - `left uploading`, `left reading`: the client vanishes in the middle of its upload, or of an endless answer;
 * - `pipelined`: the client sends four requests at once, and gets one answer.
 */
const plays = ['json', 'stream', 'unauthorized', 'too large', 'reset', 'cut', 'left uploading', 'left reading', 'pipelined'] as const;

export type Play = (typeof plays)[number];

const playHeader = 'x-play';
const credentialNames = Object.values(credentialHeaders).map(({ name }) => name.toLowerCase());
const smallestBodyBytes = 10;
const largestBodyBytes = 300_000;
const pipelinedRequests = 4;

export interface LoadUpstreamOptions {
  /** Default: TLS. */
  readonly cleartext?: boolean;
  /** How often it answers `Connection: close`, so that the next request needs a fresh connection: 0 to 1. Default: 0. */
  readonly freshShare?: number;
  readonly secureContext?: tls.SecureContextOptions;
}

/** An upstream that does its part of every `Play`. */
export interface LoadUpstream {
  readonly port: number;
  /** For the daemon's command line. */
  readonly args: readonly string[];
  /** Accepted so far. */
  readonly connections: number;
  /** The lines of each head that can carry a key, `authorization: ...` or `api-key: ...`, with how often they came. */
  readonly credentials: Map<string, number>;
}

export async function startLoadUpstream(options: LoadUpstreamOptions = {}): Promise<LoadUpstream> {
  const credentials = new Map<string, number>();
  const upstream = await startUpstream({
    ...(options.cleartext === true ? { tls: false } : {}),
    ...(options.secureContext === undefined ? {} : { secureContext: options.secureContext }),
    keepBytes: 0,
    onHead: (request) => {
      const value = credentialNames.flatMap((name) => request.values(name).map((text) => `${name}: ${text}`)).join(' & ');
      credentials.set(value, (credentials.get(value) ?? 0) + 1);
      void beginPlay(playOf(request), request);
    },
    answer: (request) => void finishPlay(playOf(request), request, Math.random() < (options.freshShare ?? 0)),
  });
  return {
    port: upstream.port,
    args: upstream.args,
    get connections() {
      return upstream.connections.length;
    },
    credentials,
  };
}

function playOf(request: UpstreamRequest): Play {
  return String(request.values(playHeader)) as Play;
}

const json: HeaderLines = [['content-type', 'application/json']];

/** What is done while the request still arrives. */
async function beginPlay(play: Play, request: UpstreamRequest): Promise<void> {
  if (play === 'too large') await request.reply(answer(413, '{"error":{"message":"too large"}}', json));
  if (play === 'reset') {
    // The client may leave before that, or the test may end.
    await request.bodyReaches(1).catch(() => {});
    request.connection.close();
  }
}

/** What is done once the request is whole. `isLast`: its connection ends with the answer. */
async function finishPlay(play: Play, request: UpstreamRequest, isLast: boolean): Promise<void> {
  const { connection } = request;
  const last: HeaderLines = isLast ? [['connection', 'close']] : [];
  const events: HeaderLines = [['content-type', 'text/event-stream'], ...last];
  switch (play) {
    case 'too large':
    case 'reset':
      return;
    case 'cut':
      await request.reply(streamHead(200, events));
      await request.reply(chunk('data: 1\n\n'));
      connection.close();
      return;
    case 'stream':
    case 'left reading':
      await request.reply(streamHead(200, events));
      for (let left = play === 'stream' ? 5 : Number.POSITIVE_INFINITY; left > 0 && connection.ending === undefined; left--) {
        await request.reply(chunk('data: {"type":"response.output_text.delta"}\n\n'));
        await new Promise((resolve) => setImmediate(resolve));
      }
      await request.reply('0\r\n\r\n');
      break;
    case 'unauthorized':
      await request.reply(answer(401, '{"error":{"message":"who are you?"}}', [...json, ...last]));
      break;
    default:
      await request.reply(Buffer.concat([Buffer.from(streamHead(200, [...json, ...last])), chunked('{"ok":true}')]));
  }
  if (isLast) connection.halfClose();
}

export interface LoadOptions {
  readonly requests: number;
  /** Default: 64. */
  readonly atOnce?: number;
  /** Largest request head, about. Default: 4 KiB. */
  readonly headBytes?: number;
  /** Default: all. */
  readonly plays?: readonly Play[];
}

/** Drives the daemon on `port`; resolves, when it is over, with what went otherwise than it should and how often: `{}` if all is well. */
export async function runLoad(port: number, options: LoadOptions): Promise<Record<string, number>> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  const failures: Record<string, number> = {};
  const chosen = options.plays ?? plays;
  let started = 0;
  const work = async (): Promise<void> => {
    while (started < options.requests) {
      const play = chosen[started++ % chosen.length] ?? 'json';
      const failure = await (play === 'pipelined' ? pipelinedExchange(port) : exchange(port, play, agent, options.headBytes ?? 4096));
      if (failure === undefined) continue;
      const what = `${play}: ${failure}`;
      failures[what] = (failures[what] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: options.atOnce ?? 64 }, work));
  agent.destroy();
  return failures;
}

const expectedStatus: Partial<Record<Play, number>> = { 'json': 200, 'stream': 200, 'unauthorized': 401, 'reset': 502 };

function exchange(port: number, play: Play, agent: http.Agent, headBytes: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const body = Buffer.alloc(Math.round(smallestBodyBytes * (largestBodyBytes / smallestBodyBytes) ** Math.random()), 'x');
    const isChunked = Math.random() < 0.5;
    const req = http.request({
      port,
      agent,
      host: '127.0.0.1',
      method: 'POST',
      path: '/v1/responses',
      headers: {
        [playHeader]: play,
        'x-fill': 'f'.repeat(Math.floor(Math.random() * headBytes)),
        ...(isChunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': body.length }),
      },
    });
    const timer = setTimeout(() => {
      resolve(`no end after ${defaultWaitMs} ms`);
      req.destroy();
    }, defaultWaitMs);
    const done = (failure?: string): void => {
      clearTimeout(timer);
      resolve(failure);
    };
    const expected = expectedStatus[play];
    req.on('error', (error) => done(expected === undefined ? undefined : error.message));
    req.on('response', (res) => {
      res.on('error', () => done());
      res.on('close', () => done(expected === undefined || res.statusCode === expected ? undefined : `status ${res.statusCode}`));
      if (play === 'left reading') res.once('data', () => req.destroy());
      else res.resume();
    });
    const half = Math.ceil(body.length / 2);
    req.write(body.subarray(0, half), () => {
      if (play === 'left uploading') {
        req.destroy();
        done();
      } else {
        req.end(body.subarray(half));
      }
    });
  });
}

function pipelinedExchange(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    const request = `POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${playHeader}: json\r\nContent-Length: 2\r\n\r\n{}`;
    let text = '';
    const timer = setTimeout(() => socket.destroy(), defaultWaitMs);
    const answered = (): number => text.split('HTTP/1.1 200').length - 1;
    socket.setEncoding('latin1').on('data', (piece: string) => {
      text += piece;
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      const isWhole = text.endsWith('{"ok":true}\r\n0\r\n\r\n');
      resolve(answered() === 1 && isWhole ? undefined : `${answered()} answers, the last one ${isWhole ? 'whole' : 'cut'}`);
    });
    socket.write(request.repeat(pipelinedRequests));
  });
}
