import type { IncomingMessage } from 'node:http';
import { type RawHeaders, contentLength, hasField } from '../gate/raw-headers.ts';
import type { RequestObserver } from '../proxy/observer.ts';
import { type Denial, DeniedError } from '../proxy/problem.ts';
import { explain, isWithoutKey } from '../proxy/upstream-error.ts';
import { type Body, ClientUpload, type Upload } from '../proxy/upload.ts';
import type { ResponseHead, Sink } from '../proxy/upstream-connection.ts';
import type { Upstream, UpstreamRequest } from '../proxy/upstream.ts';
import type { Ledger } from './audit/audit-ledger.ts';
import type { AuditEntry } from './audit/audit-entry.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { Ending } from './audit/audit-record.ts';
import type { Expiry } from './expiry.ts';
import type { Limits } from './policy/limits.ts';
import type { Policy } from './policy/policy.ts';
import { judgeBody, judgeHeaders, tooLarge } from './policy/policy-verdict.ts';
import { estimateInput } from './usage/estimate.ts';
import { type MemoryBudget, gather } from './whole-body.ts';

const nothing = Buffer.alloc(0);

const unrecorded: Denial = {
  status: 503,
  code: 'audit_unavailable',
  rule: 'audit_log',
  message: 'The audit log cannot be written, and without a record the key is not used.',
};

const noRoom: Denial = {
  status: 503,
  code: 'busy',
  rule: 'memory',
  retryAfterSeconds: 1,
  message: 'Too many large requests are being served. Try again in 1 s.',
};

const lateBody: Denial = {
  status: 408,
  code: 'request_timeout',
  rule: 'request_timeout',
  message: 'The body took too long to arrive.',
};

/** What all requests share. */
export interface SharedRules {
  readonly policy: Policy | undefined;
  readonly limits: Limits | undefined;
  readonly expiry: Expiry | undefined;
  readonly log: AuditLog | undefined;
  /** The log's, or of this run alone. */
  readonly ledger: Ledger;
  /** An answer's cost has to be known, for the record or a limit. */
  readonly readsAnswer: boolean;
  /** For the bodies that are held whole. */
  readonly held: MemoryBudget;
}

/**
 * Oversight of one request: judged by the policy, counted by the limits, recorded in the audit log. In shadow mode
 * everything is granted, and the record says what would not have been.
 */
export class RequestOversight implements RequestObserver {
  readonly answerFields: RawHeaders;
  readonly entry: AuditEntry;
  readonly #rules: SharedRules;
  /** All of the body must be here and be judged before a byte of it goes up. */
  needsBody: boolean;
  #heldBytes = 0;

  constructor(entry: AuditEntry, rules: SharedRules) {
    this.entry = entry;
    this.#rules = rules;
    this.needsBody = rules.policy?.readsBody === true;
    this.answerFields = rules.log !== undefined ? ['x-audit-id', entry.id] : [];
  }

  /** The denial of every request once the loan is over, also in shadow mode: there is no key to serve it with. */
  get expired(): Denial | undefined {
    return this.#rules.expiry?.denial;
  }

  judgeHead(rawHeaders: RawHeaders): Denial | undefined {
    const { policy, limits, log, held } = this.#rules;
    if (this.expired !== undefined) return this.expired;
    if (log?.ready() === false) return unrecorded;
    if (log !== undefined && policy?.fields === undefined) this.entry.readBody(held);
    // Where only its length counts, a body that declares it is judged now.
    if (policy?.fields === undefined && contentLength(rawHeaders) !== undefined) this.needsBody = false;
    const refusals = policy === undefined ? [] : judgeHeaders(policy, rawHeaders);
    const denial = this.#enforce(refusals) ?? this.#enforce(limits?.refusals() ?? []);
    if (refusals.some(({ rule }) => rule !== 'account_headers')) this.#judgeNoBody();
    return denial;
  }

  through(upstream: Upstream, req: IncomingMessage): Upstream {
    return (sink) => new ObservedRequest(this, upstream, req, sink);
  }

  /**
   * Takes memory for a body that is being gathered.
   *
   * @param bytes how many of the body there will be
   * @param memory how many bytes of memory that takes
   * @returns why there must not be as many
   */
  hold(bytes: number, memory: number): Denial | undefined {
    const { policy, held } = this.#rules;
    if (policy !== undefined && bytes > policy.maxBodyBytes) return this.#giveUpBody(tooLarge(policy));
    const more = memory - this.#heldBytes;
    this.#heldBytes = memory;
    return held.take(more) ? undefined : this.#giveUpBody(noRoom);
  }

  /** The rest of the body did not come. */
  denyLateBody(): Denial | undefined {
    return this.#giveUpBody(lateBody);
  }

  /** Judges the whole body. What is granted is granted to exactly these bytes. */
  judgeBody(body: Buffer): Denial | undefined {
    const { policy } = this.#rules;
    this.needsBody = false;
    if (policy === undefined) return undefined;
    const { refusals, facts } = judgeBody(policy, body);
    if (policy.fields !== undefined) this.entry.asks(facts);
    return this.#enforce(refusals);
  }

  /**
   * Takes the place that the limits have for the request, and writes to the log that it may use the key. To be called right
   * before it is sent: nothing may come in between.
   *
   * @param bodyBytes Infinity where that is not known
   */
  admit(bodyBytes: number): Denial | undefined {
    const { limits, log, ledger } = this.#rules;
    const denial = this.expired ?? this.#enforce(limits?.refusals() ?? []);
    if (denial !== undefined) return denial;
    const admission = this.entry.admission(estimateInput(bodyBytes));
    if (log === undefined) ledger.admit(admission);
    else if (!log.admit(admission)) return unrecorded;
    this.entry.isAdmitted = true;
    limits?.noteAdmission();
    return undefined;
  }

  refuse(status: number, rule: string): void {
    this.entry.refuse(status, rule);
    this.#release();
  }

  answer(status: number): void {
    this.end('complete', status);
  }

  /** The upstream's answer begins; to be called after its head went down. */
  head(status: number, rawHeaders: RawHeaders): void {
    this.entry.head(status, rawHeaders, this.#rules.readsAnswer ? this.#rules.held : undefined);
  }

  /**
   * The exchange is over; calls after the first change nothing. To be called before the client can know.
   *
   * @param status where the daemon answered by itself
   */
  end(ended: Ending, status?: number): void {
    this.entry.end(ended, status);
    this.#release();
  }

  #release(): void {
    this.#rules.held.giveBack(this.#heldBytes);
    this.#heldBytes = 0;
  }

  /** The first of some denials; in shadow mode they are noted instead. */
  #enforce(denials: readonly Denial[]): Denial | undefined {
    if (this.#rules.policy?.mode !== 'shadow') return denials[0];
    for (const { rule } of denials) this.entry.wouldRefuse(rule);
    return undefined;
  }

  /** In shadow mode, a body that cannot be judged passes as it comes. */
  #giveUpBody(denial: Denial): Denial | undefined {
    this.#judgeNoBody();
    return this.#enforce([denial]);
  }

  #judgeNoBody(): void {
    if (this.needsBody && this.#rules.log !== undefined) this.entry.readBody(this.#rules.held);
    this.needsBody = false;
  }
}

/**
 * A request to the upstream with oversight between it and the exchange: a sink of the upstream's and a request of the
 * exchange's. It holds a body that has to be judged, takes the limits' place, and tells what passes.
 */
class ObservedRequest implements Sink, UpstreamRequest {
  readonly #oversight: RequestOversight;
  readonly #req: IncomingMessage;
  readonly #sink: Sink;
  readonly #request: UpstreamRequest;
  #isCancelled = false;
  #isAnswered = false;
  /** A body that goes up in one write with the head, until it has. */
  #unsentBody: Buffer | null = null;
  /** How much is to come of the answer, in bytes; NaN where it does not say. */
  #toCome = Number.NaN;
  #lastPiece: Buffer = nothing;

  constructor(oversight: RequestOversight, upstream: Upstream, req: IncomingMessage, sink: Sink) {
    this.#oversight = oversight;
    this.#req = req;
    this.#sink = sink;
    this.#request = upstream(this);
  }

  send(headers: string[], upload: Upload): void {
    if (this.#oversight.needsBody && upload instanceof ClientUpload) this.#judgeBody(headers, upload);
    else upload.whenReadable(() => this.#admit(headers, this.#declaredBytes, () => upload.take()));
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#oversight.end('client_left');
    this.#request.cancel();
  }

  /** Not a byte goes up before the policy has read all of them; then those very bytes do. */
  #judgeBody(headers: string[], upload: ClientUpload): void {
    let denial: Denial | undefined;
    const mayHold = (bytes: number, memory: number): boolean => {
      denial = this.#isCancelled ? undefined : this.#oversight.hold(bytes, memory);
      return denial === undefined && this.#oversight.needsBody && !this.#isCancelled;
    };
    gather(this.#req, contentLength(this.#req.rawHeaders), mayHold, (body, gathering) => {
      if (this.#isCancelled) return;
      if (gathering === 'whole') denial = this.#oversight.judgeBody(body ?? nothing);
      if (gathering === 'late') denial = this.#oversight.denyLateBody();
      if (denial !== undefined) this.#deny(denial);
      else if (gathering === 'whole') this.#admit(headers, body?.length ?? 0, () => body);
      else this.#admit(headers, this.#declaredBytes, () => upload.takePieces(body)); // what was read in vain goes first
    });
  }

  get #declaredBytes(): number {
    const { rawHeaders } = this.#req;
    return contentLength(rawHeaders) ?? (hasField(rawHeaders, 'transfer-encoding') ? Infinity : 0);
  }

  #admit(headers: string[], bodyBytes: number, take: () => Body): void {
    if (this.#isCancelled) return;
    const denial = this.#oversight.admit(bodyBytes);
    if (denial !== undefined) return this.#deny(denial);
    this.#request.send(headers, { whenReadable: (callback) => callback(), take: () => this.#counted(take()) });
  }

  #deny(denial: Denial): void {
    this.#oversight.refuse(denial.status, denial.rule);
    this.#sink.fail(new DeniedError(denial));
  }

  #counted(body: Body): Body {
    if (body === null) return null;
    if (!Buffer.isBuffer(body)) return counted(body, (piece) => this.#oversight.entry.sent(piece));
    this.#unsentBody = body;
    return body;
  }

  begin(): void {
    if (this.#unsentBody !== null) this.#oversight.entry.sent(this.#unsentBody);
    this.#unsentBody = null;
    this.#sink.begin();
  }

  head(head: ResponseHead, resume: () => void): boolean {
    const wantsMore = this.#sink.head(head, resume);
    this.#isAnswered = true;
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
    this.#oversight.entry.received(bytes);
    return wantsMore;
  }

  end(): void {
    this.#oversight.entry.received(this.#lastPiece);
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
    if (this.#isAnswered) this.#oversight.end('upstream_cut');
    else this.#oversight.end('upstream_failed', explain(error, '').problem.status);
    this.#sink.fail(error);
  }
}

async function* counted(pieces: AsyncIterable<Buffer>, sent: (piece: Buffer) => void): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    yield piece;
    sent(piece);
  }
}
