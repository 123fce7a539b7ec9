// A stand-in for the upstream: speaks OpenAI's Responses API and chat completions over TLS, with a certificate of its own
// making.
//
//   npx tsx scripts/stand-in-upstream.ts [--port N] [--cleartext] [--key KEY] [--delay-ms N]
//
// POST …/responses or …/chat/completions with `Authorization: Bearer KEY` (or, as Azure takes it, `api-key: KEY`) is
// answered as the real one does it, as JSON or, with `stream: true`, as events. By default it says hello. A request asks for something else by a script, which stands in
// its `x-stand-in` header, or in its last user message as `[stand-in: SCRIPT]`, or in its model as `stand-in-SCRIPT`;
// the first of these that is there counts. A script is one of
//
//   text WORDS           a message that says WORDS (without WORDS: hello)
//   reasoning WORDS      the same after a reasoning item
//   tool NAME ARGUMENTS  a call of the function NAME (by default the first one offered) with these ARGUMENTS in JSON
//                        (by default made up from its schema); once its output is there, a message that repeats it
//   cut                  an answer whose connection is cut half way
//   401, 429 SECONDS, 500   that error; SECONDS are for its retry-after (by default 1)
//
// or several, as in `cut, then text`: then each request of the conversation (its `prompt_cache_key`) with this script
// takes the next, and the last stays. `x-stand-in-delay-ms: N` puts N milliseconds between the events of one answer.
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { realpathSync } from 'node:fs';
import { createServer as createCleartextServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { makeCertificates } from './certificates.ts';
import { chatApi, responsesApi } from './stand-in-replies.ts';
import type { Dialect, Reply } from './stand-in-replies.ts';
import { isObject, StepChooser, toolOutput } from './stand-in-steps.ts';
import type { Json, JsonObject, Step } from './stand-in-steps.ts';

export interface StandInOptions {
  /** The one key that is accepted. */
  readonly key: string;
  /** By default any free port. */
  readonly port?: number;
  /** Plain http instead of TLS; then there is no CA file. */
  readonly cleartext?: boolean;
  /** Between two events of a stream; by default 0. */
  readonly eventDelayMs?: number;
}

export interface StandIn {
  /** The address to post to. */
  readonly url: string;
  /** The CA to trust, in PEM; '' in cleartext. */
  readonly caFile: string;
  readonly port: number;
  /** Every request whose head arrived, in that order. It grows as long as the stand-in runs. */
  readonly requests: readonly RecordedRequest[];
  close(): Promise<void>;
}

/** One request and what became of it; the record is completed while the exchange goes on. */
export interface RecordedRequest {
  readonly method: string;
  readonly target: string;
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingHttpHeaders;
  /** What arrived of the body; empty while it is still arriving. */
  body: Buffer;
  /** 'broken off' if the client left before the end. */
  bodyState: 'arriving' | 'complete' | 'broken off';
  status: number | undefined;
  outcome: 'open' | 'answered' | 'cut' | 'client left';
  /** The events of a stream that were written, with `performance.now()` at that moment. */
  readonly events: { readonly type: string; readonly atMs: number }[];
}

interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly record: RecordedRequest;
}

type Handler = (exchange: Exchange) => Promise<void>;

const keepAliveTimeoutMs = 60_000;

/** Starts a stand-in on 127.0.0.1; it answers once the promise is fulfilled, and until `close`. */
export async function startStandIn(options: StandInOptions): Promise<StandIn> {
  const certificates = options.cleartext === true ? undefined : makeCertificates();
  const requests: RecordedRequest[] = [];
  const chooser = new StepChooser();
  const routes: ReadonlyMap<string, Handler> = new Map([
    ['/responses', (exchange) => answerIn(responsesApi, exchange, chooser, options.eventDelayMs ?? 0)],
    ['/chat/completions', (exchange) => answerIn(chatApi, exchange, chooser, options.eventDelayMs ?? 0)],
  ]);

  const listener = (req: IncomingMessage, res: ServerResponse): void => {
    const record: RecordedRequest = {
      method: req.method ?? '',
      target: req.url ?? '',
      rawHeaders: req.rawHeaders,
      headers: req.headers,
      body: Buffer.alloc(0),
      bodyState: 'arriving',
      status: undefined,
      outcome: 'open',
      events: [],
    };
    requests.push(record);
    res.on('close', () => {
      if (record.outcome === 'open') record.outcome = res.writableFinished ? 'answered' : 'client left';
    });
    serve({ req, res, record }, options.key, routes).catch((error: unknown) => {
      console.error('stand-in upstream:', error);
      res.destroy();
    });
  };
  const server: Server = certificates === undefined
    ? createCleartextServer(listener)
    : createTlsServer({ cert: certificates.cert, key: certificates.key }, listener);
  server.keepAliveTimeout = keepAliveTimeoutMs;
  server.requestTimeout = 0;

  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: certificates === undefined ? `http://127.0.0.1:${port}/v1/responses` : `https://localhost:${port}/v1/responses`,
    caFile: certificates?.caFile ?? '',
    port,
    requests,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
      certificates?.remove();
    },
  };
}

async function serve(exchange: Exchange, key: string, routes: ReadonlyMap<string, Handler>): Promise<void> {
  const { req, record } = exchange;
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of req as AsyncIterable<Buffer>) chunks.push(chunk);
    record.bodyState = 'complete';
  } catch {
    record.bodyState = 'broken off';
    return; // The client is gone, so there is nobody to answer.
  } finally {
    record.body = Buffer.concat(chunks);
  }

  const path = record.target.split('?', 1)[0] ?? '';
  const handler = [...routes].find(([suffix]) => path.endsWith(suffix))?.[1];
  if (handler === undefined || record.method !== 'POST') {
    return answerError(exchange, 404, {
      message: `Invalid URL (${record.method} ${path})`, type: 'invalid_request_error', param: null, code: null,
    });
  }
  const { authorization, 'api-key': bare } = record.headers;
  if (authorization !== `Bearer ${key}` && (authorization !== undefined || bare !== key)) {
    return answerUnauthorized(exchange);
  }
  return handler(exchange);
}

async function answerIn(api: Dialect, exchange: Exchange, chooser: StepChooser, eventDelayMs: number): Promise<void> {
  const { record } = exchange;
  const request = parseObject(record.body);
  if (request === undefined) {
    return answerInvalid(exchange, 'We could not parse the JSON body of your request.');
  }
  let step: Step;
  let reply: Reply;
  try {
    step = chooser.stepFor(record.headers, request);
    reply = replyTo(step, request, api);
  } catch (error) {
    if (error instanceof SyntaxError) return answerInvalid(exchange, error.message);
    throw error;
  }
  if (step.kind === 'error') return answerErrorStep(exchange, step);
  const delayMs = Number(record.headers['x-stand-in-delay-ms'] ?? eventDelayMs);
  return request['stream'] === true
    ? streamReply(exchange, reply, step.kind === 'cut', delayMs)
    : sendReply(exchange, reply, step.kind === 'cut');
}

function replyTo(step: Step, request: JsonObject, api: Dialect): Reply {
  switch (step.kind) {
    case 'text':
      return api.text(request, step.text, step.reasoning);
    case 'tool': {
      const output = toolOutput(request);
      return output === undefined
        ? api.toolCall(request, step.name, step.arguments)
        : api.text(request, `The tool answered: ${output}`, false);
    }
    case 'cut':
    case 'error':
      return api.text(request, 'These words were never meant to arrive as a whole.', false);
  }
}

async function sendReply(exchange: Exchange, reply: Reply, cut: boolean): Promise<void> {
  const { res } = exchange;
  const body = Buffer.from(JSON.stringify(reply.body, null, 2));
  writeHead(exchange, 200, { 'content-type': 'application/json', 'content-length': body.length });
  if (!cut) {
    res.end(body);
    return;
  }
  await write(res, body.subarray(0, body.length / 2));
  cutConnection(exchange);
}

async function streamReply(exchange: Exchange, reply: Reply, cut: boolean, delayMs: number): Promise<void> {
  const { res, record } = exchange;
  writeHead(exchange, 200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  const events = cut ? reply.events.slice(0, reply.events.length / 2) : reply.events;
  for (const [index, { type, text }] of events.entries()) {
    if (index > 0 && delayMs > 0) await sleep(delayMs);
    if (res.destroyed) return;
    record.events.push({ type, atMs: performance.now() });
    await write(res, text);
  }
  if (cut) cutConnection(exchange);
  else res.end();
}

function cutConnection({ res, record }: Exchange): void {
  record.outcome = 'cut';
  res.destroy();
}

/** Fulfilled once the operating system has the bytes, or the client is gone. */
function write(res: ServerResponse, data: string | Buffer): Promise<void> {
  return new Promise((resolve) => {
    res.write(data, () => { resolve(); });
  });
}

async function answerErrorStep(exchange: Exchange, step: Extract<Step, { kind: 'error' }>): Promise<void> {
  switch (step.status) {
    case 401:
      return answerUnauthorized(exchange);
    case 429:
      return answerError(exchange, 429, {
        message: 'Rate limit reached for this stand-in in organization org-stand-in on requests per min (RPM): '
          + `Limit 1, Used 1, Requested 1. Please try again in ${step.retryAfterSeconds}s. `
          + 'Visit https://platform.openai.com/account/rate-limits to learn more.',
        type: 'requests', param: null, code: 'rate_limit_exceeded',
      }, { 'retry-after': String(step.retryAfterSeconds), 'retry-after-ms': String(step.retryAfterSeconds * 1000) });
    case 500:
      return answerError(exchange, 500, {
        message: 'The server had an error while processing your request. Sorry about that!',
        type: 'server_error', param: null, code: null,
      });
  }
}

async function answerUnauthorized(exchange: Exchange): Promise<void> {
  const sent = /^Bearer (.*)$/.exec(exchange.record.headers.authorization ?? '')?.[1];
  const error = sent === undefined
    ? { message: "You didn't provide an API key. You need to provide your API key in an Authorization header using "
      + 'Bearer auth (i.e. Authorization: Bearer YOUR_KEY).', type: 'invalid_request_error', param: null, code: null }
    : { message: `Incorrect API key provided: ${maskKey(sent)}. You can find your API key at `
      + 'https://platform.openai.com/account/api-keys.', type: 'invalid_request_error', param: null, code: 'invalid_api_key' };
  return answerError(exchange, 401, error, { 'www-authenticate': 'Bearer realm="OpenAI API"' });
}

async function answerInvalid(exchange: Exchange, message: string): Promise<void> {
  return answerError(exchange, 400, { message, type: 'invalid_request_error', param: null, code: null });
}

async function answerError(exchange: Exchange, status: number, error: JsonObject, headers: OutgoingHttpHeaders = {}): Promise<void> {
  const body = Buffer.from(JSON.stringify({ error }, null, 2));
  writeHead(exchange, status, { 'content-type': 'application/json', 'content-length': body.length, ...headers });
  exchange.res.end(body);
}

/** Sends the head, with what the real one adds to every answer. */
function writeHead({ res, record }: Exchange, status: number, headers: OutgoingHttpHeaders): void {
  record.status = status;
  res.writeHead(status, {
    ...headers,
    'openai-version': '2020-10-01',
    'openai-organization': 'org-stand-in',
    'openai-project': 'proj_stand_in',
    'openai-processing-ms': '7',
    'x-request-id': `req_${randomUUID().replaceAll('-', '')}`,
    'x-ratelimit-limit-requests': '10000',
    'x-ratelimit-remaining-requests': status === 429 ? '0' : '9999',
    'x-ratelimit-reset-requests': '6ms',
    'strict-transport-security': 'max-age=31536000; includeSubDomains; preload',
    'cf-cache-status': 'DYNAMIC',
    'set-cookie': [cookie('__cf_bm'), cookie('_cfuvid')],
    'X-Content-Type-Options': 'nosniff',
    'Server': 'cloudflare',
    'CF-RAY': `${randomBytes(8).toString('hex')}-FRA`,
    'alt-svc': 'h3=":443"; ma=86400',
  });
}

function cookie(name: string): string {
  return `${name}=${randomBytes(16).toString('base64url')}; path=/; HttpOnly; Secure; SameSite=None`;
}

/** As much of a key as may be shown: enough to tell which, too little to use it. */
export function maskKey(key: string): string {
  return key.length < 16 ? '*'.repeat(key.length) : `${key.slice(0, 8)}${'*'.repeat(key.length - 12)}${key.slice(-4)}`;
}

function parseObject(body: Buffer): JsonObject | undefined {
  try {
    const value = JSON.parse(body.toString('utf8')) as Json;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined; // The caller answers with 400.
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '0' },
      cleartext: { type: 'boolean', default: false },
      key: { type: 'string', default: 'sk-stand-in' },
      'delay-ms': { type: 'string', default: '0' },
    },
  });
  const standIn = await startStandIn({
    key: values.key, port: Number(values.port), cleartext: values.cleartext, eventDelayMs: Number(values['delay-ms']),
  });
  console.log(`url  ${standIn.url}`);
  if (standIn.caFile !== '') console.log(`ca   ${standIn.caFile}`);
  console.log(`key  ${values.key}`);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => { standIn.close().then(() => process.exit(0), () => process.exit(1)); });
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await main();
}
