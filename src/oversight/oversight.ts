import { type Exchanged, type Lease, Limits, estimateTokens } from './policy/limits.ts';
import { type Policy, readPolicy } from './policy/policy.ts';
import { judgeBody, judgeHeaders, tooLarge } from './policy/policy-verdict.ts';
import { AuditEntries, type AuditEntry, type RequestHead } from './audit/audit-entry.ts';
import { AuditLog, type AuditLogOptions } from './audit/audit-log.ts';
import { usesSince } from './audit/audit-past.ts';
import type { AuditRecord, Ending } from './audit/audit-record.ts';
import { totalOf } from './usage/usage.ts';
import { type Field, lengthOf } from '../proxy/headers.ts';
import type { Problem } from '../proxy/problem.ts';
import { MemoryBudget } from '../proxy/whole-body.ts';

/** A use of the key that is not granted: what the client is told, and the rule for the record. */
export interface Denial extends Problem {
  rule: string;
}

export interface AccountsOptions {
  /** Where each request is recorded; undefined for nowhere. */
  readonly auditLog: AuditLogOptions | undefined;
  /** What cannot be recorded is refused. */
  readonly isAuditRequired: boolean;
  /** The file of `--policy`. */
  readonly policyFile: string | undefined;
  /** The target that is served, and the one that it goes to. */
  readonly endpoint: string;
  readonly upstreamTarget: string;
}

/** Memory that the bodies which are held whole may have together, in bytes; more only if a single one may be larger. */
const heldBytes = 64 * 1024 * 1024;

const minuteMs = 60_000;
const dayMs = 86_400_000;

const unrecorded: Denial = {
  status: 503,
  code: 'audit_unavailable',
  rule: 'audit_required',
  message: 'The audit log cannot be written, and without a record the key is not used (--audit-required).',
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

/**
 * What the key is used for, and how much of that is granted: `--audit-log` and `--policy`, which share what has to be
 * known of each request. Without either, nothing of this is loaded.
 */
export class Accounts {
  readonly #log: AuditLog | undefined;
  readonly #entries: AuditEntries;
  readonly #rules: AccountRules;

  /**
   * Opens the audit log and takes up the limits where it ends.
   *
   * @throws {Failure} when the policy cannot be read or is none, or the log cannot be opened
   */
  constructor({ auditLog, isAuditRequired, policyFile, endpoint, upstreamTarget }: AccountsOptions) {
    const policy = policyFile === undefined ? undefined : readPolicy(policyFile, endpoint, upstreamTarget);
    const log = auditLog === undefined ? undefined : new AuditLog(auditLog);
    const limits = policy?.limits === undefined ? undefined : new Limits(policy.limits);
    if (auditLog !== undefined) limits?.restore(pastExchanges(auditLog.file, endpoint));
    this.#log = log;
    this.#entries = new AuditEntries((record) => log?.append(record));
    this.#rules = {
      policy,
      limits,
      isRecorded: log !== undefined,
      canRecord: () => !isAuditRequired || log === undefined || log.ready(),
      readsAnswer: log !== undefined || policy?.limits?.tokensPerDay !== undefined,
      held: new MemoryBudget(Math.max(heldBytes, policy?.maxBodyBytes ?? 0)),
    };
  }

  /**
   * Fields that requests carry upstream in place of the client's: an answer that has to be read must not be compressed.
   * To decompress it here would cost more than the transfer saves, and memory that the upstream chooses.
   */
  get upstreamFields(): readonly Field[] {
    return this.#rules.readsAnswer ? [{ name: 'Accept-Encoding', value: 'identity' }] : [];
  }

  /** Takes up a request whose head is complete, or that could not be parsed. */
  begin(head: RequestHead): RequestAccount {
    return new RequestAccount(this.#entries.begin(head), this.#rules);
  }

  /** Opens the log anew, after it was renamed. */
  reopen(): void {
    this.#log?.reopen();
  }

  /** The process ends, and with it what is running. To be called before connections are cut. */
  stop(): void {
    this.#entries.stop();
  }

  /** To be called last. */
  close(): void {
    this.#log?.close();
  }
}

/** What all requests share. */
interface AccountRules {
  readonly policy: Policy | undefined;
  readonly limits: Limits | undefined;
  readonly isRecorded: boolean;
  /** Whether what is admitted now can be recorded, where it has to be. */
  readonly canRecord: () => boolean;
  /** Somebody wants to know what an answer cost. */
  readonly readsAnswer: boolean;
  /** For the bodies that are held whole. */
  readonly held: MemoryBudget;
}

/**
 * One request's account: judged by the policy, counted by the limits, recorded in the audit log. It is told of everything
 * as it happens. In shadow mode all is granted, and the record says what would not have been.
 */
export class RequestAccount {
  /** The header that goes with every answer, name and value; empty where nothing is recorded. */
  readonly fields: readonly string[];
  readonly #entry: AuditEntry;
  readonly #rules: AccountRules;
  #needsBody: boolean;
  #readsWhatIsSent = false;
  #isAdmitted = false;
  #lease: Lease | undefined;
  #heldBytes = 0;

  constructor(entry: AuditEntry, rules: AccountRules) {
    this.#entry = entry;
    this.#rules = rules;
    this.#needsBody = rules.policy?.readsBody === true;
    this.fields = rules.isRecorded ? ['x-audit-id', entry.id] : [];
  }

  /** What goes up is read for the record, which had better be done while the upstream is at work. */
  get readsWhatIsSent(): boolean {
    return this.#readsWhatIsSent;
  }

  /** Before a byte of the body goes up, all of it must be here, and be judged. */
  get needsWholeBody(): boolean {
    return this.#needsBody;
  }

  /**
   * Judges what can be told by the head, before anybody waits for a body.
   *
   * @param rawHeaders names and values in turn, as received
   * @param waits others on its connection come before it; what the limits say then, `admit` will tell
   */
  judgeHead(rawHeaders: readonly string[], waits: boolean): Denial | undefined {
    const { policy, limits, isRecorded, canRecord } = this.#rules;
    if (!canRecord()) return unrecorded;
    if (isRecorded && policy?.fields === undefined) {
      this.#readsWhatIsSent = true;
      this.#entry.readBody();
    }
    // By its length alone, a body is judged now, if it says it.
    if (policy?.fields === undefined && lengthOf(rawHeaders) !== undefined) this.#needsBody = false;
    const denial = (policy && judgeHeaders(policy, rawHeaders)) ?? (waits ? undefined : limits?.refusal());
    return denial && this.#enforce(denial);
  }

  /**
   * A body is being gathered.
   *
   * @param bytes how many there will be
   * @param memory how many that takes
   * @returns why there must not be as many
   */
  hold(bytes: number, memory: number): Denial | undefined {
    const { policy, held } = this.#rules;
    if (policy !== undefined && bytes > policy.maxBodyBytes) return this.#enforce(tooLarge(policy));
    const more = memory - this.#heldBytes;
    this.#heldBytes = memory;
    return held.take(more) ? undefined : this.#enforce(noRoom);
  }

  /** The rest of the body did not come. */
  denyLateBody(): Denial | undefined {
    return this.#enforce(lateBody);
  }

  /** Judges the whole body. What is granted is granted to exactly these bytes. */
  judgeBody(body: Buffer): Denial | undefined {
    const { policy } = this.#rules;
    this.#needsBody = false;
    if (policy === undefined) return undefined;
    const { refusal, facts } = judgeBody(policy, body);
    if (policy.fields !== undefined) this.#entry.asks(facts.model, facts.stream);
    return refusal && this.#enforce(refusal);
  }

  /** Takes the place that the limits have for it. To be called right before it is sent: nothing may come in between. */
  admit(): Denial | undefined {
    const { limits, canRecord } = this.#rules;
    if (!canRecord()) return unrecorded;
    const admission = limits?.admit();
    if (admission !== undefined && 'refusal' in admission) {
      const denial = this.#enforce(admission.refusal);
      if (denial !== undefined) return denial;
    } else {
      this.#lease = admission?.lease;
    }
    this.#isAdmitted = true;
    return undefined;
  }

  /**
   * It is refused, by an error code of the gate's or a rule of the policy's. To be called before the answer is sent. What
   * was admitted cannot be refused any more: its client broke it off.
   */
  refuse(status: number, rule: string): void {
    this.#settle(this.#isAdmitted ? this.#entry.end('client_left', status) : this.#entry.refuse(status, rule));
  }

  /** Bytes of the body went up; to be called after they did. */
  sent(bytes: Buffer): void {
    this.#entry.sent(bytes);
  }

  /** The upstream's answer begins; to be called after its head went down. */
  head(status: number, rawHeaders: readonly string[]): void {
    this.#entry.head(status, rawHeaders, this.#rules.readsAnswer);
  }

  /** Bytes of the answer's body went down; to be called after they did. */
  received(bytes: Buffer): void {
    this.#entry.received(bytes);
  }

  /**
   * The exchange is over; calls after the first change nothing. To be called before the client can know.
   *
   * @param status where we answered ourselves
   */
  end(ended: Ending, status?: number): void {
    this.#settle(this.#entry.end(ended, status));
  }

  #settle(record: AuditRecord | undefined): void {
    if (record === undefined) return;
    this.#rules.held.giveBack(this.#heldBytes);
    this.#heldBytes = 0;
    this.#lease?.settle(totalOf(record.usage), estimateTokens(exchanged(record)));
  }

  /** In shadow mode a first objection is the last: what the policy would have refused it does not read on. */
  #enforce(denial: Denial): Denial | undefined {
    if (this.#rules.policy?.mode !== 'shadow') return denial;
    this.#entry.wouldRefuse(denial.rule);
    if (this.#needsBody && this.#rules.isRecorded) this.#entry.readBody();
    this.#needsBody = false;
    return undefined;
  }
}

function exchanged({ bytesUp, bytesDown, totalMs, ended, status }: AuditRecord): Exchanged {
  return { bytesUp, bytesDown, durationMs: totalMs, upstreamStatus: ended === 'upstream_failed' ? undefined : status };
}

/** What limits have to know of earlier runs: this UTC day's tokens, and the last minute's requests. */
function* pastExchanges(file: string, endpoint: string): Generator<{ startedAtMs: number; endedAtMs: number; tokens: number }> {
  const now = Date.now();
  const dayBegan = now - (now % dayMs);
  for (const use of usesSince(file, Math.min(dayBegan, now - minuteMs), endpoint)) {
    yield { startedAtMs: use.startedAtMs, endedAtMs: use.endedAtMs, tokens: use.totalTokens ?? estimateTokens(use) };
  }
}
