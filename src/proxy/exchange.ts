import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Rules } from '../gate/gate.ts';
import { type RawHeaders, hasField } from '../gate/raw-headers.ts';
import type { BoundedLog } from '../run/bounded-log.ts';
import { type OwnFields, toClient, toUpstream } from './headers.ts';
import type { Observer, RequestObserver } from './observer.ts';
import { type Denial, DeniedError, answerProblem } from './problem.ts';
import type { KernelSockets } from './kernel-sockets.ts';
import { ClientUpload } from './upload.ts';
import type { ResponseHead, Sink } from './upstream-connection.ts';
import { explain } from './upstream-error.ts';
import type { Upstream, UpstreamRequest } from './upstream.ts';

/** What the daemon serves, and by what means. One object for the listener, its connections, requests and exchanges. */
export interface Service {
  readonly maxConnections: number;
  /** All but the port, which is known once it is bound. */
  readonly rules: Omit<Rules, 'port'>;
  /** Asks the kernel who is at the other end; undefined where nothing needs to know. */
  readonly peerUidOf: ((socket: Socket) => number | undefined) | undefined;
  readonly upstream: Upstream;
  /** The upstream's host and port, for messages. */
  readonly upstreamHost: string;
  readonly ownFields: OwnFields;
  /** Told of what goes wrong, and of what is refused. */
  readonly events: Pick<BoundedLog, 'say' | 'once' | 'note'>;
  readonly sockets: KernelSockets;
  readonly observer: Observer;
  /** A client asked for GET /shutdown, and has its answer. */
  readonly onShutdownRequest: (uid: number | undefined) => void;
}

/** A request that was accepted, and what belongs to it. */
export interface ServedRequest {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly observer: RequestObserver;
  /** The user at the other end, for the log. */
  readonly peerUid: number | undefined;
}

const nothing = Buffer.alloc(0);

/** How long a client may take to read what came of an answer before it is cut off, in ms. */
const maxSlowReadMs = 30_000;

/** How often we look whether the client's kernel has it. Ours does not say when. */
const sendQueueCheckMs = 5;

/**
 * How long the client's program has to read what its kernel has, in ms: libuv reports a plain end where data and a reset
 * are there at once (uv__stream_io, on POLLHUP after a partial read).
 */
const readGraceMs = 50;

/**
 * One exchange: a client's request goes up, the upstream's answer comes down, each piece as it arrives. If one side
 * breaks off, so does the other.
 */
export class Exchange implements Sink {
  readonly observer: RequestObserver;
  readonly #served: ServedRequest;
  readonly #service: Service;
  readonly #request: UpstreamRequest;
  #isCancelled = false;
  #endsByReset = false;

  constructor(served: ServedRequest, service: Service) {
    const { req, observer } = served;
    this.observer = observer;
    this.#served = served;
    this.#service = service;
    this.#request = observer.through(service.upstream, req)(this);
  }

  /** Nothing of the answer has been sent yet. */
  get isUnanswered(): boolean {
    return !this.#served.res.headersSent;
  }

  start(): void {
    const { req } = this.#served;
    this.#request.send(toUpstream(req.rawHeaders, this.#service.ownFields), new ClientUpload(req));
  }

  /** Breaks off an answer that has begun, with no time to wait for the client. */
  cut(): void {
    const { socket } = this.#served.res;
    if (socket === null) return;
    if (this.#endsByReset && !this.isUnanswered) this.#service.sockets.reset(socket);
    else socket.destroy();
  }

  /** The client left, or must leave: the upstream's work is of no use any more. */
  cancel(): void {
    if (this.#isCancelled) return;
    this.#isCancelled = true;
    this.#request.cancel();
  }

  /** The answer has left the daemon, or never will. */
  closed(): void {
    if (!this.#served.res.writableFinished) this.cancel();
  }

  /** The client has closed its sending side. It counts as gone, though it may still read. */
  clientEnded(): void {
    // A request that broke off in the middle is answered 400, and a whole answer is on its way.
    if (!this.#served.req.complete || this.#served.res.writableEnded) return;
    this.cancel();
    const { socket } = this.#served.res;
    if (!this.isUnanswered && this.#endsByReset && socket !== null) this.#service.sockets.reset(socket);
  }

  begin(): void {} // only observers care

  head({ status, reason, rawHeaders }: ResponseHead, resume: () => void): boolean {
    const res = this.#served.res;
    this.#endsByReset = needsReset(this.#served.req, rawHeaders);
    if (status === 401) this.#service.events.say('the upstream answered 401: the key is wrong, expired or revoked');
    if (status === 404 || status === 405) this.#service.events.once(`the upstream answered ${status}: if it always does, --upstream-url has the wrong path`);
    res.sendDate = false; // the upstream's own passes
    res.writeHead(status, reason, toClient(rawHeaders, this.observer.answerFields));
    res.on('drain', resume);
    // Sends the head without waiting for a body. Not `flushHeaders`: that one writes the head as UTF-8.
    return res.write(nothing);
  }

  data(bytes: Buffer): boolean {
    return this.#served.res.write(bytes);
  }

  end(): void {
    this.#served.res.end();
  }

  fail(error: Error): void {
    if (error instanceof DeniedError) return this.#deny(error.denial);
    const { upstreamHost, events } = this.#service;
    const { problem, detail } = explain(error, upstreamHost);
    if (this.isUnanswered) {
      events.say(`${problem.code}: ${detail}`);
      answerProblem(this.#served.res, problem, this.observer.answerFields);
    } else {
      events.say(`the answer was cut: ${detail}`);
      this.#cutAnswer();
    }
  }

  #deny(denial: Denial): void {
    const { method, url } = this.#served.req;
    this.#service.events.note(denial.code, `${method} ${url} (${denial.rule})`, this.#served.peerUid);
    answerProblem(this.#served.res, denial, this.observer.answerFields);
  }

  /**
   * Ends a broken answer so that the client cannot take it for a whole one. Where a plain end could look whole, it is a
   * reset, once what was written has arrived: a reset discards the rest.
   */
  #cutAnswer(): void {
    const { socket } = this.#served.res;
    if (socket === null) return;
    if (!this.#endsByReset) return void socket.destroySoon();
    const deadlineMs = performance.now() + maxSlowReadMs;
    const resetWhenSent = (): void => {
      if (socket.destroyed) return;
      const isSent = socket.writableLength === 0 && this.#service.sockets.unacknowledgedBytes(socket) === 0;
      if (isSent) setTimeout(() => this.#service.sockets.reset(socket), readGraceMs);
      else if (performance.now() > deadlineMs) this.#service.sockets.reset(socket);
      else setTimeout(resetWhenSent, sendQueueCheckMs);
    };
    resetWhenSent();
  }
}

/**
 * Whether only a reset tells a cut answer from a whole one. Many clients take a FIN within a Content-Length body for its
 * end (python requests, Ruby's net/http, openai-node 4), and in HTTP/1.0 it can be the end. Chunked answers lack their
 * last chunk.
 */
function needsReset(req: IncomingMessage, rawHeaders: RawHeaders): boolean {
  return req.httpVersionMinor === 0 || hasField(rawHeaders, 'content-length');
}
