import type { IncomingMessage } from 'node:http';
import { type RawHeaders, contentLength, hasField } from '../gate/raw-headers.ts';
import { type Denial, DeniedError } from '../proxy/problem.ts';
import { explain, isWithoutKey } from '../proxy/upstream-error.ts';
import { type Body, ClientUpload, type Upload } from '../proxy/upload.ts';
import type { ResponseHead, Sink } from '../proxy/upstream-connection.ts';
import type { Upstream, UpstreamRequest } from '../proxy/upstream.ts';
import type { Ending } from './audit/audit-record.ts';
import { gather } from './whole-body.ts';

const nothing = Buffer.alloc(0);

/** What decides on a request and is told what becomes of it. */
export interface Overseer {
  /** The denial of every request once the loan is over. */
  readonly expired: Denial | undefined;
  /** All of the body must be here and be judged before a byte of it goes up. */
  readonly needsWholeBody: boolean;
  /** The upload is read for the record, preferably while the upstream is at work. */
  readonly readsUpload: boolean;
  /**
   * Takes memory for a body that is being gathered.
   *
   * @param bytes how many of the body there will be
   * @param memory how many bytes of memory that takes
   * @returns why there must not be as many
   */
  hold(bytes: number, memory: number): Denial | undefined;
  /** The rest of the body did not come. */
  denyLateBody(): Denial | undefined;
  /** Judges the whole body. What is granted is granted to exactly these bytes. */
  judgeBody(body: Buffer): Denial | undefined;
  /** Takes the place that the limits have for the request. To be called right before it is sent: nothing may come in between. */
  admit(): Denial | undefined;
  refuse(status: number, rule: string): void;
  /** Bytes of the body went up; to be called after they did. */
  sent(bytes: Buffer): void;
  /** The upstream's answer begins; to be called after its head went down. */
  head(status: number, rawHeaders: RawHeaders): void;
  /** Bytes of the answer's body went down; to be called after they did. */
  received(bytes: Buffer): void;
  /**
   * The exchange is over; calls after the first change nothing. To be called before the client can know.
   *
   * @param status where the daemon answered by itself
   */
  end(ended: Ending, status?: number): void;
}

/**
 * A request to the upstream with oversight between it and the exchange: a sink of the upstream's and a request of the
 * exchange's. It holds a body that has to be judged, takes the limits' place, and tells what passes.
 */
export class ObservedRequest implements Sink, UpstreamRequest {
  readonly #oversight: Overseer;
  readonly #req: IncomingMessage;
  readonly #sink: Sink;
  readonly #request: UpstreamRequest;
  #isCancelled = false;
  #hasBegun = false;
  #isAnswered = false;
  /** A body that goes up in one write, until it has. */
  #unsentBody: Buffer | null = null;
  /** How much is to come of the answer, in bytes; NaN where it does not say. */
  #toCome = Number.NaN;
  #lastPiece: Buffer = nothing;

  constructor(oversight: Overseer, upstream: Upstream, req: IncomingMessage, sink: Sink) {
    this.#oversight = oversight;
    this.#req = req;
    this.#sink = sink;
    this.#request = upstream(this);
  }

  send(headers: string[], upload: Upload): void {
    if (this.#oversight.needsWholeBody && upload instanceof ClientUpload) this.#judgeBody(headers, upload);
    else upload.whenReadable(() => this.#admit(headers, upload));
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#noteSent();
    this.#oversight.end('client_left');
    this.#request.cancel();
  }

  /** Not a byte goes up before the policy has read all of them; then those very bytes do. */
  #judgeBody(headers: string[], upload: ClientUpload): void {
    let denial: Denial | undefined;
    const mayHold = (bytes: number, memory: number): boolean => {
      denial = this.#isCancelled ? undefined : this.#oversight.hold(bytes, memory);
      return denial === undefined && this.#oversight.needsWholeBody && !this.#isCancelled;
    };
    gather(this.#req, contentLength(this.#req.rawHeaders), mayHold, (body, gathering) => {
      if (this.#isCancelled) return;
      if (gathering === 'whole') denial = this.#oversight.judgeBody(body ?? nothing);
      if (gathering === 'late') denial = this.#oversight.denyLateBody();
      if (denial !== undefined) this.#deny(denial);
      else this.#admit(headers, gathering === 'whole' ? wholeUpload(body) : upload, body);
    });
  }

  #admit(headers: string[], upload: Upload, read: Buffer | null = null): void {
    if (this.#isCancelled) return;
    const denial = this.#oversight.admit();
    if (denial !== undefined) return this.#deny(denial);
    // What was read of the body in vain goes first.
    const take = (): Body => (upload instanceof ClientUpload && read !== null ? upload.takePieces(read) : upload.take());
    this.#request.send(headers, { whenReadable: (callback) => callback(), take: () => this.#counted(take()) });
  }

  #deny(denial: Denial): void {
    this.#oversight.refuse(denial.status, denial.rule);
    this.#sink.fail(new DeniedError(denial));
  }

  #counted(body: Body): Body {
    if (body === null) return null;
    if (!Buffer.isBuffer(body)) return counted(body, (piece) => this.#oversight.sent(piece));
    this.#unsentBody = body;
    return body;
  }

  begin(): void {
    this.#hasBegun = true;
    if (this.#oversight.readsUpload) setImmediate(() => this.#noteSent());
    this.#sink.begin();
  }

  head(head: ResponseHead, resume: () => void): boolean {
    const wantsMore = this.#sink.head(head, resume);
    this.#isAnswered = true;
    this.#noteSent();
    this.#oversight.head(head.status, head.rawHeaders);
    if (!hasField(head.rawHeaders, 'transfer-encoding')) this.#toCome = contentLength(head.rawHeaders) ?? Number.NaN;
    return wantsMore;
  }

  data(bytes: Buffer): boolean {
    this.#toCome -= bytes.length;
    if (this.#toCome === 0) {
      // With it the client has all of its answer, so it waits for the record: `end` is next.
      this.#lastPiece = bytes;
      return true;
    }
    const wantsMore = this.#sink.data(bytes);
    this.#oversight.received(bytes);
    return wantsMore;
  }

  end(): void {
    this.#oversight.received(this.#lastPiece);
    this.#noteSent();
    this.#oversight.end('complete');
    if (this.#lastPiece.length > 0) this.#sink.data(this.#lastPiece);
    this.#sink.end();
  }

  fail(error: Error): void {
    const expired = isWithoutKey(error) ? this.#oversight.expired : undefined;
    if (expired !== undefined) {
      // The loan ended while it waited for a connection.
      this.#oversight.end('upstream_failed', expired.status);
      this.#sink.fail(new DeniedError(expired));
      return;
    }
    this.#noteSent();
    if (this.#isAnswered) this.#oversight.end('upstream_cut');
    else this.#oversight.end('upstream_failed', explain(error, '').problem.status);
    this.#sink.fail(error);
  }

  /** Once there was a connection, head and body have gone up in one write. */
  #noteSent(): void {
    if (this.#unsentBody === null || !this.#hasBegun) return;
    this.#oversight.sent(this.#unsentBody);
    this.#unsentBody = null;
  }
}

async function* counted(pieces: AsyncIterable<Buffer>, sent: (piece: Buffer) => void): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    yield piece;
    sent(piece);
  }
}

/** A body that is in memory already. */
function wholeUpload(body: Buffer | null): Upload {
  return { whenReadable: (callback) => callback(), take: () => body };
}
