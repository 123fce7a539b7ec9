import type { IncomingMessage, ServerResponse } from 'node:http';
import type { BoundedLog } from '../run/bounded-log.ts';
import type { RefusalLog } from '../run/refusal-log.ts';
import { type OwnFields, toClient, toUpstream } from './headers.ts';
import type { RequestObserver } from './observer.ts';
import { type Denial, DeniedError, answerProblem } from './problem.ts';
import { ClientUpload, type HangUpCheck } from './upload.ts';
import { explain } from './upstream-error.ts';
import type { ResponseHead, Sink, Upstream, UpstreamRequest } from './upstream.ts';

/** What every exchange needs. */
export interface ForwardContext {
  readonly upstream: Upstream;
  /** The upstream's host and port, for messages. */
  readonly upstreamHost: string;
  readonly ownFields: OwnFields;
  /** Told of what goes wrong. */
  readonly failures: BoundedLog;
  /** Told of what is denied after the head. */
  readonly refusals: RefusalLog;
  readonly hasHungUp: HangUpCheck;
}

const nothing = Buffer.alloc(0);

/**
 * One exchange: a client's request goes up, the upstream's answer comes down, each piece as it arrives. If one side
 * breaks off, so does the other.
 */
export class Exchange implements Sink {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #context: ForwardContext;
  readonly #observer: RequestObserver;
  readonly #request: UpstreamRequest;
  #isCancelled = false;

  constructor(req: IncomingMessage, res: ServerResponse, context: ForwardContext, observer: RequestObserver) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#observer = observer;
    this.#request = observer.through(context.upstream, req)(this);
    res.once('close', () => {
      if (!res.writableFinished) this.cancel();
    });
  }

  get observer(): RequestObserver {
    return this.#observer;
  }

  /** Nothing of the answer has been sent yet. */
  get isUnanswered(): boolean {
    return !this.#res.headersSent;
  }

  /** The client's request has come to its end. */
  get hasWholeRequest(): boolean {
    return this.#req.complete;
  }

  /** The connection will end with this answer; says so, if its head is not out yet. */
  announceClose(): void {
    if (this.isUnanswered) this.#res.shouldKeepAlive = false;
  }

  start(): void {
    if (this.#isCancelled || this.#req.destroyed) return;
    const { ownFields, hasHungUp } = this.#context;
    this.#request.send(toUpstream(this.#req.rawHeaders, ownFields), new ClientUpload(this.#req, hasHungUp));
  }

  /** The daemon ends in the middle of the answer. */
  cut(): void {
    if (!this.isUnanswered) cutAnswer(this.#res);
  }

  /** The client left, or must leave: the upstream's work is of no use any more. */
  cancel(): void {
    if (this.#isCancelled) return;
    this.#isCancelled = true;
    this.#request.cancel();
  }

  begin(): void {}

  head({ status, reason, rawHeaders }: ResponseHead, resume: () => void): boolean {
    const res = this.#res;
    res.sendDate = false; // the upstream's own passes
    res.writeHead(status, reason, toClient(rawHeaders, this.#observer.answerFields));
    res.on('drain', resume);
    // Sends the head without waiting for a body. Not `flushHeaders`: that one writes the head as UTF-8.
    return res.write(nothing);
  }

  data(bytes: Buffer): boolean {
    return this.#res.write(bytes);
  }

  end(): void {
    this.#res.end();
  }

  fail(error: Error): void {
    if (error instanceof DeniedError) return this.#deny(error.denial);
    const { upstreamHost, failures } = this.#context;
    const { problem, detail } = explain(error, upstreamHost);
    if (this.isUnanswered) {
      failures.say(`${problem.code}: ${detail}`);
      answerProblem(this.#res, problem, this.#observer.answerFields);
    } else {
      failures.say(`the answer was cut: ${detail}`);
      cutAnswer(this.#res);
    }
  }

  #deny(denial: Denial): void {
    const { method, url } = this.#req;
    this.#context.refusals.note(denial.code, `${method} ${url} (${denial.rule})`);
    answerProblem(this.#res, denial, this.#observer.answerFields);
  }
}

/** Ends a broken answer so that the client cannot take it for a whole one: without the last chunk, or short of its length. */
function cutAnswer(res: ServerResponse): void {
  // In HTTP/1.0 the end of the connection can be the end of the body, so that a plain close would look like success.
  if (res.req.httpVersionMinor === 0) res.socket?.resetAndDestroy();
  else res.socket?.destroySoon();
}
