import { randomBytes } from 'node:crypto';
import { type RawHeaders, valuesOf } from '../../gate/raw-headers.ts';
import type { RequestHead } from '../../proxy/observer.ts';
import type { AuditRecord, Ending } from './audit-record.ts';
import { type BodyFacts, factsOf } from '../policy/body-facts.ts';
import { readJsonObject } from '../policy/strict-json.ts';
import { Collected } from '../usage/collected.ts';
import { AnswerReader, formOf } from '../usage/usage.ts';
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

  /** It is refused, with this status, by this rule; and thereby over, see `end`. To be called before the answer is sent. */
  refuse(status: number, rule: string): AuditRecord | undefined {
    if (this.#hasEnded) return undefined;
    Object.assign(this.#record, { decision: 'refused', rule, rules: undefined });
    return this.end('refused', status);
  }

  /** Bytes of the body went up. To be called after they did: reading them takes time. */
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
   * @returns the record, the first time
   */
  end(ended: Ending, status?: number): AuditRecord | undefined {
    if (this.#hasEnded) return undefined;
    this.#hasEnded = true;
    if (status !== undefined) this.#answered(status);
    this.#readRequest();
    const answered = this.#answer?.end();
    this.#answer = undefined;
    const record = this.#record;
    record.model ??= answered?.model;
    Object.assign(record, { time: Date.now(), totalMs: performance.now() - this.#startedMs, ended, usage: answered?.usage });
    this.#onEnd(record);
    return record;
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
