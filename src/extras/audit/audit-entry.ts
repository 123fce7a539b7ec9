import { randomBytes } from 'node:crypto';
import { type RawHeaders, valuesOf } from '../../gate/raw-headers.ts';
import type { RequestHead } from '../../proxy/observer.ts';
import type { Admission } from './audit-ledger.ts';
import { type AuditRecord, type Ending, printable } from './audit-record.ts';
import { type BodyFacts, factsOf } from '../policy/body-facts.ts';
import { readJsonObject } from '../policy/strict-json.ts';
import { Collected } from '../usage/collected.ts';
import { estimateTokens } from '../usage/estimate.ts';
import { AnswerReader, formOf, totalOf } from '../usage/usage.ts';
import type { MemoryBudget } from '../whole-body.ts';

const idBytes = 8;

/** How many ids' random bytes are fetched at once: the call costs more than the rest of a request's beginning. */
const idsAtOnce = 128;

/**
 * The records of the requests that are running. Each is kept once, when its exchange has ended, however it did.
 */
export class AuditEntries {
  readonly #running = new Set<AuditEntry>();
  readonly #keep: (record: AuditRecord) => void;
  #ids: string[] = [];

  /** @param keep what becomes of a record that is complete */
  constructor(keep: (record: AuditRecord) => void) {
    this.#keep = keep;
  }

  begin(head: RequestHead): AuditEntry {
    const entry = new AuditEntry(this.#newId(), head, (record) => {
      this.#running.delete(entry);
      this.#keep(record);
    });
    this.#running.add(entry);
    return entry;
  }

  #newId(): string {
    if (this.#ids.length === 0) this.#ids = randomBytes(idBytes * idsAtOnce).toString('hex').match(/.{16}/g) ?? [];
    return this.#ids.pop() ?? '';
  }

  /** The process ends, and with it what is running. */
  stop(): void {
    for (const entry of this.#running) entry.end('stopped');
  }
}

/** One request's record in the making: it is told of everything as it happens, and keeps what the record says of it. */
export class AuditEntry {
  /** For `x-audit-id`. */
  readonly id: string;
  /** It may use the key, and is charged for that. */
  isAdmitted = false;
  readonly #onEnd: (record: AuditRecord) => void;
  readonly #rawHeaders: RawHeaders;
  readonly #record: { -readonly [Name in keyof AuditRecord]: AuditRecord[Name] };
  readonly #startedMs: number = performance.now();
  #request: Collected | undefined;
  #answer: AnswerReader | undefined;
  #hasEnded = false;

  constructor(id: string, { uid, method, target, rawHeaders }: RequestHead, onEnd: (record: AuditRecord) => void) {
    this.id = id;
    this.#rawHeaders = rawHeaders;
    this.#onEnd = onEnd;
    const traceparents = valuesOf(rawHeaders, 'traceparent');
    const traceparent = traceparents.length === 1 ? traceparents[0] : undefined;
    this.#record = { id, uid, method, target, traceparent, decision: 'allowed', bytesUp: 0, bytesDown: 0, time: 0, totalMs: 0, ended: 'stopped' };
  }

  /** What a policy read in the body. Without it, the body is read as it passes, see `sent`. */
  asks(facts: BodyFacts): void {
    Object.assign(this.#record, facts);
  }

  /** No policy reads the body, so it is collected as it passes, unless it is compressed. */
  readBody(held: MemoryBudget): void {
    if (foreignEncoding(this.#rawHeaders) === undefined) this.#request = new Collected(held);
  }

  /** A policy in shadow mode would have refused it, by this rule, and perhaps by others. */
  wouldRefuse(rule: string): void {
    this.#record.decision = 'would_refuse';
    this.#record.rules = [...new Set([...(this.#record.rules ?? []), rule])];
    [this.#record.rule] = this.#record.rules;
  }

  /** @param estimate in tokens */
  admission(estimate: number): Admission {
    const { id, uid, model, serviceTier, reasoningMode } = this.#record;
    return { id, uid, model: model === undefined ? undefined : printable(model), serviceTier, reasoningMode, time: Date.now(), estimate };
  }

  /**
   * It is refused, with this status, by this rule; and thereby over, see `end`. To be called before the answer is sent. What
   * was admitted cannot be refused any more: its client broke it off.
   */
  refuse(status: number, rule: string): void {
    if (this.isAdmitted) return this.end('client_left', status);
    if (this.#hasEnded) return;
    Object.assign(this.#record, { decision: 'refused', rule, rules: undefined });
    this.end('refused', status);
  }

  /** Bytes of the body went up. */
  sent(bytes: Buffer): void {
    this.#record.bytesUp += bytes.length;
    this.#request?.add(bytes);
  }

  /**
   * The upstream's answer begins.
   *
   * @param rawHeaders as they go to the client: names and values in turn
   * @param held memory for reading its body, for the model and what it cost; undefined where it is not read
   */
  head(status: number, rawHeaders: RawHeaders, held: MemoryBudget | undefined): void {
    this.#answered(status);
    this.#readRequest();
    [this.#record.upstreamRequestId] = valuesOf(rawHeaders, 'x-request-id');
    if (held === undefined) return;
    const form = formOf(rawHeaders);
    if (form !== undefined) this.#answer = new AnswerReader(form, held);
    else this.#record.unreadEncoding = foreignEncoding(rawHeaders);
  }

  /** Bytes of the answer's body went down. To be called after they did. */
  received(bytes: Buffer): void {
    this.#record.bytesDown += bytes.length;
    this.#answer?.write(bytes);
  }

  /**
   * The exchange is over, and the record is kept. To be called before the client can know: before the answer's end is
   * sent. Calls after the first change nothing.
   *
   * @param status where we answered ourselves
   */
  end(ended: Ending, status?: number): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (status !== undefined) this.#answered(status);
    this.#readRequest();
    const answered = this.#answer?.end();
    this.#answer = undefined;
    const record = this.#record;
    record.model ??= answered?.model;
    Object.assign(record, { time: Date.now(), totalMs: performance.now() - this.#startedMs, ended, usage: answered?.usage });
    const upstreamStatus = ended === 'upstream_failed' ? undefined : record.status;
    if (this.isAdmitted) record.charged = Math.min(Number.MAX_SAFE_INTEGER, totalOf(record.usage) ?? estimateTokens({ ...record, durationMs: record.totalMs, upstreamStatus }));
    this.#onEnd(record);
  }

  /** An answer mostly begins when all of the body is up. One that begins sooner leaves unknown what the request says. */
  #readRequest(): void {
    const body = this.#request?.take();
    this.#request = undefined;
    const reading = body && readJsonObject(body);
    if (reading?.kind === 'object') this.asks(factsOf(reading.object));
  }

  #answered(status: number): void {
    this.#record.status = status;
    this.#record.headMs = performance.now() - this.#startedMs;
  }
}

/** The content codings of a body that is not plain; undefined where it is. */
function foreignEncoding(raw: RawHeaders): string | undefined {
  const encodings = valuesOf(raw, 'content-encoding').map((encoding) => encoding.trim().toLowerCase());
  return encodings.every((encoding) => encoding === '' || encoding === 'identity') ? undefined : encodings.join(', ');
}
