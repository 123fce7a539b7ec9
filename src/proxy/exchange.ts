import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Dispatcher } from 'undici';
import type { Ending } from '../oversight/audit/audit-record.ts';
import type { BoundedLog } from '../run/bounded-log.ts';
import type { RefusalLog } from '../run/refusal-log.ts';
import type { Denial, RequestAccount } from '../oversight/oversight.ts';
import { type OwnFields, hasField, hasForeignCoding, lengthOf, toClient, toUpstream, withOwn } from './headers.ts';
import { answerProblem } from './problem.ts';
import { explain } from './upstream-error.ts';
import type { Upstream } from './upstream.ts';
import { gather } from './whole-body.ts';

/** What every exchange needs. */
export interface ForwardContext {
  upstream: Upstream;
  ownFields: OwnFields;
  /** Told of what goes wrong. */
  failures: BoundedLog;
  /** Told of what a policy refuses once it has read the body. */
  refusals: RefusalLog;
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
  readonly #account: RequestAccount | undefined;
  /** A body that goes up in one write, until it has. */
  #body: Buffer | null = null;
  #abortUpstream: (() => void) | undefined;
  #cancelled = false;
  /** How much is to come of a recorded answer, in bytes; NaN where nobody told. */
  #toCome = Number.NaN;
  #lastPiece: Buffer = nothing;
  /** The client has all of its answer; what the upstream still does is of no interest. */
  #isAnswered = false;

  /** @param account judges the request, and is told what becomes of it; undefined where nobody keeps accounts */
  constructor(req: IncomingMessage, res: ServerResponse, context: ForwardContext, account: RequestAccount | undefined) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#account = account;
    res.once('close', () => {
      if (!res.writableFinished) this.cancel();
    });
  }

  get account(): RequestAccount | undefined {
    return this.#account;
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
    if (this.#account?.needsWholeBody === true) return this.#judgeBody(this.#account);
    if (req.readableLength === 0 && !req.complete) {
      req.once('readable', () => this.start());
      return;
    }
    // A body that is here already goes out in one write with the head. A chunked one stays chunked.
    this.#send(hasWholeBody(req) ? wholeBody(req) : pieces(req, this.#account));
  }

  /** Not a byte goes up before the policy has read all of them; then those very bytes do. */
  #judgeBody(account: RequestAccount): void {
    let denial: Denial | undefined;
    const mayHold = (bytes: number, memory: number): boolean => {
      denial = this.#cancelled ? undefined : account.hold(bytes, memory);
      return denial === undefined && account.needsWholeBody && !this.#cancelled;
    };
    gather(this.#req, lengthOf(this.#req.rawHeaders), mayHold, (body, gathering) => {
      if (this.#cancelled) return;
      if (gathering === 'whole') denial = account.judgeBody(body ?? nothing);
      if (gathering === 'late') denial = account.denyLateBody();
      if (denial !== undefined) this.#refuse(denial);
      else this.#send(gathering === 'whole' ? body : pieces(this.#req, account, body));
    });
  }

  #send(body: Buffer | AsyncIterable<Buffer> | null): void {
    const denial = this.#account?.admit();
    if (denial !== undefined) return this.#refuse(denial);
    if (body instanceof Buffer) this.#body = body;
    else if (body !== null && !this.#req.complete) this.#watchClient();
    this.#context.upstream.send(toUpstream(this.#req.rawHeaders, this.#context.ownFields), body, this);
  }

  #refuse(denial: Denial): void {
    const { method, url } = this.#req;
    this.#account?.refuse(denial.status, denial.rule);
    this.#context.refusals.note(denial.code, `${method} ${url} (${denial.rule})`);
    answerProblem(this.#res, denial, this.#account?.fields);
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

  /** The daemon ends in the middle of the answer. */
  cut(): void {
    if (!this.unanswered) cutAnswer(this.#res);
  }

  /** The client left, or must leave: the upstream's work is of no use any more. */
  cancel(): void {
    this.#cancelled = true;
    this.#end('client_left');
    this.#abortUpstream?.();
  }

  onConnect(abort: () => void): void {
    this.#abortUpstream = abort;
    if (this.#cancelled) abort();
    else if (this.#account?.readsWhatIsSent === true) setImmediate(() => this.#noteSent());
  }

  /** Once there was a connection, head and body have gone up in one write. */
  #noteSent(): void {
    if (this.#body === null || this.#abortUpstream === undefined) return;
    this.#account?.sent(this.#body);
    this.#body = null;
  }

  #end(ended: Ending, status?: number): void {
    this.#noteSent();
    this.#account?.end(ended, status);
  }

  onHeaders(statusCode: number, rawHeaders: Buffer[], resume: () => void, statusText: string): boolean {
    // An interim answer (RFC 9110 section 15.2) concerns this hop alone.
    if (statusCode < 200) return true;
    const res = this.#res;
    const fields = rawHeaders.map((bytes) => bytes.toString('latin1'));
    if (hasForeignCoding(fields)) throw new Error('the body is in a transfer coding that was not asked for');
    res.sendDate = false; // the upstream's own passes
    const account = this.#account;
    const toSend = account === undefined ? toClient(fields) : withOwn(account.fields, toClient(fields));
    res.writeHead(statusCode, Buffer.from(statusText).toString('latin1'), toSend);
    if (account !== undefined) {
      this.#noteSent();
      account.head(statusCode, fields);
      if (!hasField(fields, 'transfer-encoding')) this.#toCome = lengthOf(fields) ?? Number.NaN;
    }
    if (statusCode === 204 || statusCode === 304) {
      // Neither has a body, whatever its Content-Length says (RFC 9112 section 6.3). undici would wait for one.
      this.#isAnswered = true;
      this.#end('complete');
      res.end();
      return true;
    }
    res.on('drain', resume);
    // Sends the head without waiting for a body. Not `flushHeaders`: that one writes the head as UTF-8.
    return res.write(nothing);
  }

  onData(chunk: Buffer): boolean {
    this.#toCome -= chunk.length;
    if (this.#toCome === 0) {
      // With it the client has all of its answer, so it goes when that is recorded: in `onComplete`, which is next.
      this.#lastPiece = chunk;
      return true;
    }
    const hasRoom = this.#res.write(chunk);
    this.#account?.received(chunk);
    return hasRoom;
  }

  onComplete(): void {
    if (this.#isAnswered) return;
    this.#account?.received(this.#lastPiece);
    this.#end('complete');
    this.#res.end(this.#lastPiece);
  }

  onError(error: Error): void {
    if (this.#cancelled || this.#isAnswered) return;
    const { upstream, failures } = this.#context;
    const { problem, detail } = explain(error, upstream.host);
    if (this.unanswered) {
      failures.say(`${problem.code}: ${detail}`);
      this.#end('upstream_failed', problem.status);
      answerProblem(this.#res, problem, this.#account?.fields);
      return;
    }
    failures.say(`the answer was cut: ${detail}`);
    this.#end('upstream_cut');
    cutAnswer(this.#res);
  }
}

/** Whether all of a body is here. Node says that a request is complete only after its last bytes were handed out. */
function hasWholeBody({ complete, rawHeaders, readableLength }: IncomingMessage): boolean {
  const length = lengthOf(rawHeaders);
  return length === undefined ? complete && !hasField(rawHeaders, 'transfer-encoding') : length === readableLength;
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
 *
 * @param first what was read already
 */
async function* pieces(req: IncomingMessage, account: RequestAccount | undefined, first: Buffer | null = null): AsyncGenerator<Buffer> {
  try {
    if (first !== null) yield* counted([first], account);
    const rest = req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
    yield* account === undefined ? rest : counted(rest, account);
  } finally {
    req.resume();
  }
}

async function* counted(pieces: Iterable<Buffer> | AsyncIterable<Buffer>, account: RequestAccount | undefined): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    yield piece;
    account?.sent(piece);
  }
}

/** Ends a broken answer so that the client cannot take it for a whole one: without the last chunk, or short of its length. */
function cutAnswer(res: ServerResponse): void {
  // In HTTP/1.0 the end of the connection can be the end of the body, so that a plain close would look like success.
  if (res.req.httpVersionMinor === 0) res.socket?.resetAndDestroy();
  else res.socket?.destroySoon();
}
