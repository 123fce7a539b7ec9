import type { IncomingMessage } from 'node:http';
import { type RawHeaders, contentLength } from '../gate/raw-headers.ts';
import type { RequestObserver } from '../proxy/observer.ts';
import type { Denial } from '../proxy/problem.ts';
import type { Upstream } from '../proxy/upstream.ts';
import type { Expiry } from './expiry.ts';
import type { AuditEntry } from './audit/audit-entry.ts';
import type { AuditRecord, Ending } from './audit/audit-record.ts';
import { ObservedRequest, type Overseer } from './observed-request.ts';
import { type Exchanged, type Lease, type Limits, estimateTokens } from './policy/limits.ts';
import type { Policy } from './policy/policy.ts';
import { judgeBody, judgeHeaders, tooLarge } from './policy/policy-verdict.ts';
import { totalOf } from './usage/usage.ts';
import type { MemoryBudget } from './whole-body.ts';

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
  readonly isRecorded: boolean;
  /** Whether what is admitted now can be recorded, where there is a log. */
  readonly canRecord: () => boolean;
  /** An answer's cost has to be known, for the record or a limit. */
  readonly readsAnswer: boolean;
  /** For the bodies that are held whole. */
  readonly held: MemoryBudget;
}

/**
 * Oversight of one request: judged by the policy, counted by the limits, recorded in the audit log. In shadow mode
 * everything is granted, and the record says what would not have been.
 */
export class RequestOversight implements RequestObserver, Overseer {
  readonly answerFields: RawHeaders;
  readonly #entry: AuditEntry;
  readonly #rules: SharedRules;
  #needsBody: boolean;
  #readsUpload = false;
  #isAdmitted = false;
  #lease: Lease | undefined;
  #heldBytes = 0;

  constructor(entry: AuditEntry, rules: SharedRules) {
    this.#entry = entry;
    this.#rules = rules;
    this.#needsBody = rules.policy?.readsBody === true;
    this.answerFields = rules.isRecorded ? ['x-audit-id', entry.id] : [];
  }

  get readsUpload(): boolean {
    return this.#readsUpload;
  }

  get needsWholeBody(): boolean {
    return this.#needsBody;
  }

  /** The denial of every request once the loan is over, also in shadow mode: there is no key to serve it with. */
  get expired(): Denial | undefined {
    const { expiry } = this.#rules;
    return expiry?.hasExpired() === true ? expiry.denial : undefined;
  }

  judgeHead(rawHeaders: RawHeaders): Denial | undefined {
    const { policy, limits, isRecorded, canRecord, held } = this.#rules;
    if (this.expired !== undefined) return this.expired;
    if (!canRecord()) return unrecorded;
    if (isRecorded && policy?.fields === undefined) {
      this.#readsUpload = true;
      this.#entry.readBody(held);
    }
    // Where only its length counts, a body that declares it is judged now.
    if (policy?.fields === undefined && contentLength(rawHeaders) !== undefined) this.#needsBody = false;
    const refusals = policy === undefined ? [] : judgeHeaders(policy, rawHeaders);
    const denial = this.#enforce(refusals) ?? this.#enforce(limits?.refusals() ?? []);
    if (refusals.length > 0) this.#judgeNoBody();
    return denial;
  }

  through(upstream: Upstream, req: IncomingMessage): Upstream {
    return (sink) => new ObservedRequest(this, upstream, req, sink);
  }

  hold(bytes: number, memory: number): Denial | undefined {
    const { policy, held } = this.#rules;
    if (policy !== undefined && bytes > policy.maxBodyBytes) return this.#giveUpBody(tooLarge(policy));
    const more = memory - this.#heldBytes;
    this.#heldBytes = memory;
    return held.take(more) ? undefined : this.#giveUpBody(noRoom);
  }

  denyLateBody(): Denial | undefined {
    return this.#giveUpBody(lateBody);
  }

  judgeBody(body: Buffer): Denial | undefined {
    const { policy } = this.#rules;
    this.#needsBody = false;
    if (policy === undefined) return undefined;
    const { refusals, facts } = judgeBody(policy, body);
    if (policy.fields !== undefined) this.#entry.asks(facts.model, facts.stream);
    return this.#enforce(refusals);
  }

  admit(): Denial | undefined {
    const { limits, canRecord } = this.#rules;
    if (this.expired !== undefined) return this.expired;
    if (!canRecord()) return unrecorded;
    const admission = limits?.admit();
    if (admission !== undefined && 'refusal' in admission) {
      const denial = this.#enforce(limits?.refusals() ?? []);
      if (denial !== undefined) return denial;
    } else {
      this.#lease = admission?.lease;
    }
    this.#isAdmitted = true;
    return undefined;
  }

  /** What was admitted cannot be refused any more: its client broke it off. */
  refuse(status: number, rule: string): void {
    this.#settle(this.#isAdmitted ? this.#entry.end('client_left', status) : this.#entry.refuse(status, rule));
  }

  answer(status: number): void {
    this.end('complete', status);
  }

  sent(bytes: Buffer): void {
    this.#entry.sent(bytes);
  }

  head(status: number, rawHeaders: RawHeaders): void {
    this.#entry.head(status, rawHeaders, this.#rules.readsAnswer ? this.#rules.held : undefined);
  }

  received(bytes: Buffer): void {
    this.#entry.received(bytes);
  }

  end(ended: Ending, status?: number): void {
    this.#settle(this.#entry.end(ended, status));
  }

  #settle(record: AuditRecord | undefined): void {
    if (record === undefined) return;
    this.#rules.held.giveBack(this.#heldBytes);
    this.#heldBytes = 0;
    this.#lease?.settle(totalOf(record.usage), estimateTokens(exchanged(record)));
  }

  /** The first of some denials; in shadow mode they are noted instead. */
  #enforce(denials: readonly Denial[]): Denial | undefined {
    if (this.#rules.policy?.mode !== 'shadow') return denials[0];
    for (const { rule } of denials) this.#entry.wouldRefuse(rule);
    return undefined;
  }

  /** In shadow mode, a body that cannot be judged passes as it comes. */
  #giveUpBody(denial: Denial): Denial | undefined {
    this.#judgeNoBody();
    return this.#enforce([denial]);
  }

  #judgeNoBody(): void {
    if (this.#needsBody && this.#rules.isRecorded) this.#entry.readBody(this.#rules.held);
    this.#needsBody = false;
  }
}

function exchanged({ bytesUp, bytesDown, totalMs, ended, status }: AuditRecord): Exchanged {
  return { bytesUp, bytesDown, durationMs: totalMs, upstreamStatus: ended === 'upstream_failed' ? undefined : status };
}
