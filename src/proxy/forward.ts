import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Dispatcher } from 'undici';
import type { LockedKey } from '../key/locked-key.ts';
import { Redaction } from '../key/redaction.ts';
import type { BoundedLog } from '../record/bounded-log.ts';
import { type OwnFields, hasField, hasForeignCoding, toClient, toUpstream } from './headers.ts';
import { answerProblem } from './problem.ts';
import { explain } from './upstream-error.ts';
import type { Upstream } from './upstream.ts';

/** What every exchange needs. */
export interface ForwardContext {
  upstream: Upstream;
  ownFields: OwnFields;
  key: LockedKey;
  /** Told of what goes wrong. */
  failures: BoundedLog;
  /** Tells whether the client has closed its connection; undefined where only reading can tell. */
  hasHungUp: ((socket: Socket) => boolean) | undefined;
}

const nothing = Buffer.alloc(0);

/** How often we look whether a client that uploads is still there, while back-pressure keeps us from reading. */
const presenceCheckMs = 50;

/**
 * One exchange: a client's request goes up, the upstream's answer comes down, each piece as it arrives. If one side
 * breaks off, so does the other. It is undici's handler of the request's events; undici's newer form of handler parses
 * the answer's headers into an object and loses their order and case, so this is the older one.
 */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #context: ForwardContext;
  readonly #redaction: Redaction;
  #abortUpstream: (() => void) | undefined;
  #cancelled = false;
  /** The client has all of its answer; what the upstream still does is of no interest. */
  #isAnswered = false;

  constructor(req: IncomingMessage, res: ServerResponse, context: ForwardContext) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#redaction = new Redaction(context.key, () => context.failures.say('the upstream sent the key back; it was masked'));
    res.once('close', () => {
      if (!res.writableFinished) this.cancel();
    });
  }

  /** Nothing of the answer has been sent yet. */
  get unanswered(): boolean {
    return !this.#res.headersSent;
  }

  /** The client's request has come to its end. */
  get hasWholeRequest(): boolean {
    return this.#req.complete;
  }

  /** The connection will end with this answer; says so, if its head is not out yet. */
  announceClose(): void {
    if (this.unanswered) this.#res.shouldKeepAlive = false;
  }

  /** Starts as soon as the body's first bytes are there, or its end. undici sends the head with them, never before. */
  start(): void {
    const req = this.#req;
    if (this.#cancelled || req.destroyed) return;
    if (req.readableLength === 0 && !req.complete) {
      req.once('readable', () => this.start());
      return;
    }
    // A body that is here already goes out in one write with the head. A chunked one stays chunked.
    const body = req.complete && !hasField(req.rawHeaders, 'transfer-encoding') ? wholeBody(req) : pieces(req);
    if (!req.complete) this.#watchClient();
    this.#context.upstream.send(toUpstream(req.rawHeaders, this.#context.ownFields), body, this);
  }

  /** While an upload waits for the upstream, nothing is read from the client, so nothing says that it left. */
  #watchClient(): void {
    const { socket } = this.#req;
    const { hasHungUp } = this.#context;
    if (hasHungUp === undefined) return;
    const timer = setInterval(() => {
      if (this.#req.complete) clearInterval(timer);
      else if (hasHungUp(socket)) socket.destroy();
    }, presenceCheckMs);
    this.#res.once('close', () => clearInterval(timer));
  }

  /** The client left, or must leave: the upstream's work is of no use any more. */
  cancel(): void {
    this.#cancelled = true;
    this.#abortUpstream?.();
  }

  onConnect(abort: () => void): void {
    this.#abortUpstream = abort;
    if (this.#cancelled) abort();
  }

  onHeaders(statusCode: number, rawHeaders: Buffer[], resume: () => void, statusText: string): boolean {
    // An interim answer (RFC 9110 section 15.2) concerns this hop alone.
    if (statusCode < 200) return true;
    const res = this.#res;
    const fields = rawHeaders.map((bytes) => this.#redaction.field(bytes));
    if (hasForeignCoding(fields)) throw new Error('the body is in a transfer coding that was not asked for');
    res.sendDate = false; // the upstream's own passes
    res.writeHead(statusCode, this.#redaction.field(Buffer.from(statusText)), toClient(fields));
    if (statusCode === 204 || statusCode === 304) {
      // Neither has a body, whatever its Content-Length says (RFC 9112 section 6.3). undici would wait for one.
      this.#isAnswered = true;
      res.end();
      return true;
    }
    res.on('drain', resume);
    // Sends the head without waiting for a body. Not `flushHeaders`: that one writes the head as UTF-8.
    return res.write(nothing);
  }

  onData(chunk: Buffer): boolean {
    const bytes = this.#redaction.chunk(chunk);
    return bytes.length === 0 || this.#res.write(bytes);
  }

  onComplete(): void {
    if (this.#isAnswered) return;
    this.#res.end(this.#redaction.end());
  }

  onError(error: Error): void {
    if (this.#cancelled || this.#isAnswered) return;
    const { upstream, failures } = this.#context;
    const { problem, detail } = explain(error, upstream.host);
    if (this.unanswered) {
      failures.say(`${problem.code}: ${detail}`);
      answerProblem(this.#res, problem);
      return;
    }
    failures.say(`the answer was cut: ${detail}`);
    cutAnswer(this.#res);
  }
}

/** A body that has arrived; null for none. From Node 26 on `read` gives what came in one piece, before that all of it. */
function wholeBody(req: IncomingMessage): Buffer | null {
  const chunks: Buffer[] = [];
  for (let chunk = req.read() as Buffer | null; chunk !== null; chunk = req.read() as Buffer | null) chunks.push(chunk);
  const [first = null] = chunks;
  return chunks.length <= 1 ? first : Buffer.concat(chunks);
}

/**
 * The pieces of a body as they come. An early answer ends the iteration; what is left of the upload then flows off,
 * because to close the connection on a client that is still sending would take the answer from it.
 */
async function* pieces(req: IncomingMessage): AsyncGenerator<Buffer> {
  try {
    yield* req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  } finally {
    req.resume();
  }
}

/** Ends a broken answer so that the client cannot take it for a whole one: without the last chunk, or short of its length. */
function cutAnswer(res: ServerResponse): void {
  // In HTTP/1.0 the end of the connection can be the end of the body, so that a plain close would look like success.
  if (res.req.httpVersionMinor === 0) res.socket?.resetAndDestroy();
  else res.socket?.destroySoon();
}
