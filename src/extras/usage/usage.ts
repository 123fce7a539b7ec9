import { type RawHeaders, valuesOf } from '../../gate/raw-headers.ts';
import { type JsonObject, type JsonValue, isObject } from '../policy/json-value.ts';
import { readJsonObject } from '../policy/strict-json.ts';
import type { MemoryBudget } from '../whole-body.ts';
import { Collected } from './collected.ts';

/** What an answer cost, in tokens. Undefined is what the upstream did not say. */
export interface Usage {
  readonly input: number | undefined;
  /** The part of `input` that came out of a cache. */
  readonly cached: number | undefined;
  readonly output: number | undefined;
  /** The part of `output` that is not shown. */
  readonly reasoning: number | undefined;
  readonly total: number | undefined;
}

/** What an answer says about itself. */
export interface Answered {
  readonly model: string | undefined;
  /** Undefined where it did not say, did not end, or could not be read. */
  readonly usage: Usage | undefined;
}

/** Of the events of the Responses API, those that carry usage. The first two of every stream repeat all of the request. */
const finalEvents: ReadonlySet<string> = new Set(['response.completed', 'response.incomplete', 'response.failed']);

/** The longest name of an event, with `event: ` before it. */
const maxNameBytes = 128;

const dataField = 'data:';
const nothing = Buffer.alloc(0);
const [lineFeed, carriageReturn] = [0x0a, 0x0d];

/** All of an answer's tokens; undefined where nothing is known of them. */
export function totalOf(usage: Usage | undefined): number | undefined {
  return usage === undefined ? undefined : (usage.total ?? (usage.input ?? 0) + (usage.output ?? 0));
}

/** The Responses API's names, and those of chat completions and embeddings. */
const inputNames = ['input_tokens', 'prompt_tokens'];
const outputNames = ['output_tokens', 'completion_tokens'];

/**
 * Reads the usage out of an answer as it passes: out of a JSON answer, or out of the last event that has one. An event ends
 * with an empty line, and lines with LF or CRLF (WHATWG HTML, section 9.2.6; nobody sends a CR alone). What is too large to
 * be collected leaves the usage unknown. Never throws.
 */
export class AnswerReader {
  readonly #form: 'json' | 'events';
  /** The JSON answer, or the event that we are in. */
  readonly #collected: Collected;
  /** The line that we are in is not empty. */
  #hasText = false;
  #answered: Answered = { model: undefined, usage: undefined };

  /**
   * @param form what the answer's bytes are, see `formOf`
   * @param held for what is collected
   */
  constructor(form: 'json' | 'events', held: MemoryBudget) {
    this.#form = form;
    this.#collected = new Collected(held);
  }

  /** Reads the body's next bytes. */
  write(bytes: Buffer): void {
    if (this.#form === 'json') return this.#collected.add(bytes);
    let event = 0;
    let line = 0;
    for (let end = bytes.indexOf(lineFeed); end !== -1; end = bytes.indexOf(lineFeed, line)) {
      const hasText = this.#hasText || hasTextBetween(bytes, line, end);
      this.#hasText = false;
      line = end + 1;
      if (hasText) continue;
      this.#endEvent(this.#collected.take(bytes.subarray(event, line)));
      event = line;
    }
    this.#collected.add(bytes.subarray(event));
    this.#hasText ||= hasTextBetween(bytes, line, bytes.length);
  }

  /** What was read, once no more bytes come, be it the end or not. An event whose empty line is missing counts as well. */
  end(): Answered {
    const rest = this.#collected.take();
    if (this.#form === 'events') this.#endEvent(rest);
    else this.#read(rest);
    return this.#answered;
  }

  #endEvent(event: Buffer | undefined): void {
    // Nearly all events have their name first, and are none of these.
    const [, name = ''] = /^event: ?(response\.[a-z_.]+)/.exec(event?.toString('latin1', 0, maxNameBytes) ?? '') ?? [];
    if (name !== '' && !finalEvents.has(name)) return;
    const lines = event?.toString('utf8').split('\n') ?? [];
    const data = lines.filter((line) => line.startsWith(dataField)).map((line) => line.slice(dataField.length));
    this.#read(event && Buffer.from(data.join('\n')));
  }

  /** The last that says something counts: what was too large may have said something else. */
  #read(json: Buffer | undefined): void {
    if (json === undefined) this.#answered = { ...this.#answered, usage: undefined };
    const reading = readJsonObject(json ?? nothing);
    if (reading.kind === 'invalid') return;
    // An event of the Responses API has its answer in `response`.
    const answers = [reading.object.get('response'), reading.object].filter(isObject);
    this.#answered = {
      model: answers.map((answer) => answer.get('model')).find((model) => typeof model === 'string') ?? this.#answered.model,
      usage: answers.map(usageOf).find((usage) => usage !== undefined) ?? this.#answered.usage,
    };
  }
}

/**
 * How an answer can be read, by its head; undefined where it cannot: compressed in spite of the `Accept-Encoding:
 * identity` that asked for it, or neither JSON nor events.
 */
export function formOf(rawHeaders: RawHeaders): 'json' | 'events' | undefined {
  const isPlain = valuesOf(rawHeaders, 'content-encoding').every((encoding) => ['', 'identity'].includes(encoding.trim().toLowerCase()));
  if (!isPlain) return undefined;
  const forms = valuesOf(rawHeaders, 'content-type').map((type) => type.trim().toLowerCase());
  if (forms.some((type) => /^text\/event-stream\s*(;|$)/.test(type))) return 'events';
  return forms.some((type) => /^application\/(json|[\w.-]+\+json)\s*(;|$)/.test(type)) ? 'json' : undefined;
}

/** Whether a part of a line has more than the carriage return that may end it. */
function hasTextBetween(bytes: Buffer, from: number, to: number): boolean {
  return to - from > 1 || (to > from && bytes[from] !== carriageReturn);
}

function usageOf(answer: JsonObject): Usage | undefined {
  const usage = answer.get('usage');
  if (!isObject(usage)) return undefined;
  const counts = {
    input: countIn(usage, inputNames),
    cached: countIn(usage, inputNames, 'cached_tokens'),
    output: countIn(usage, outputNames),
    reasoning: countIn(usage, outputNames, 'reasoning_tokens'),
    total: countIn(usage, ['total_tokens']),
  };
  return Object.values(counts).every((count) => count === undefined) ? undefined : counts;
}

/** @param detail a part of the count, which stands beside it */
function countIn(usage: JsonObject, names: readonly string[], detail?: string): number | undefined {
  const values = names.map((name) => {
    if (detail === undefined) return usage.get(name);
    const details = usage.get(`${name}_details`);
    return isObject(details) ? details.get(detail) : undefined;
  });
  return values.find(isCount);
}

function isCount(value: JsonValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
