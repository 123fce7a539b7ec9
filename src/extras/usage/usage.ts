import { type RawHeaders, valuesOf } from '../../gate/raw-headers.ts';
import { EventStream } from './event-stream.ts';
import { JsonScanner, type Scalar, wantedMembers } from './json-scanner.ts';

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

/** The paths by which an answer's members are found; of several, the first that is there counts. */
interface Place {
  readonly model: string;
  readonly usage: Readonly<Record<keyof Usage, readonly string[]>>;
}

/** A JSON answer, a piece of a chat completion. */
const atTop = placeBelow('');
/** An event of the Responses API has its answer in `response`. */
const inResponse = placeBelow('response.');

const wanted = wantedMembers([atTop, inResponse].flatMap(({ model, usage }) => [model, ...Object.values(usage).flat()]));

/** Of the events of the Responses API, those that carry usage. The first two of every stream repeat all of the request. */
const finalEvents: ReadonlySet<string> = new Set(['response.completed', 'response.incomplete', 'response.failed']);

/** All of an answer's tokens; undefined where nothing is known of them. */
export function totalOf(usage: Usage | undefined): number | undefined {
  return usage === undefined ? undefined : (usage.total ?? (usage.input ?? 0) + (usage.output ?? 0));
}

/**
 * Reads the usage out of an answer as it passes: out of a JSON answer, or out of the last event that has one. Nothing
 * is kept, changed or held back; memory is bounded, however large an answer or event is. Never throws.
 */
export class AnswerReader {
  readonly #scanner = new JsonScanner(wanted);
  readonly #events: EventStream | undefined;
  #answered: Answered = { model: undefined, usage: undefined };

  /** @param form what the answer's bytes are, see `formOf` */
  constructor(form: 'json' | 'events') {
    if (form === 'json') return;
    this.#events = new EventStream({
      wants: (name) => !name.startsWith('response.') || finalEvents.has(name),
      data: (bytes) => this.#scanner.write(bytes),
      end: () => this.#take(),
    });
  }

  /** Reads the body's next bytes. */
  write(bytes: Buffer): void {
    (this.#events ?? this.#scanner).write(bytes);
  }

  /** What was read, once no more bytes come, be it the end or not. */
  end(): Answered {
    if (this.#events === undefined) this.#take();
    else this.#events.end();
    return this.#answered;
  }

  /** The text that the scanner has read is over. The last one that says something counts. */
  #take(): void {
    const { found, isComplete } = this.#scanner;
    if (isComplete && found.size > 0) {
      const model = found.get(inResponse.model) ?? found.get(atTop.model);
      // Most pieces of a chat completion have nothing but a model.
      const hasUsage = found.size > 1 || model === undefined;
      this.#answered = {
        model: typeof model === 'string' ? model : this.#answered.model,
        usage: (hasUsage ? (usageOf(found, inResponse) ?? usageOf(found, atTop)) : undefined) ?? this.#answered.usage,
      };
    }
    this.#scanner.reset();
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

/** The names of the Responses API, and those of chat completions and embeddings. */
function placeBelow(prefix: string): Place {
  const paths = (...names: string[]): string[] => names.map((name) => `${prefix}usage.${name}`);
  return {
    model: `${prefix}model`,
    usage: {
      input: paths('input_tokens', 'prompt_tokens'),
      cached: paths('input_tokens_details.cached_tokens', 'prompt_tokens_details.cached_tokens'),
      output: paths('output_tokens', 'completion_tokens'),
      reasoning: paths('output_tokens_details.reasoning_tokens', 'completion_tokens_details.reasoning_tokens'),
      total: paths('total_tokens'),
    },
  };
}

function usageOf(found: ReadonlyMap<string, Scalar>, { usage: paths }: Place): Usage | undefined {
  const [input, cached, output] = [countAt(found, paths.input), countAt(found, paths.cached), countAt(found, paths.output)];
  const [reasoning, total] = [countAt(found, paths.reasoning), countAt(found, paths.total)];
  const isNothing = input === undefined && cached === undefined && output === undefined && reasoning === undefined && total === undefined;
  return isNothing ? undefined : { input, cached, output, reasoning, total };
}

function countAt(found: ReadonlyMap<string, Scalar>, paths: readonly string[]): number | undefined {
  for (const path of paths) {
    const value = found.get(path);
    if (isCount(value)) return value;
  }
  return undefined;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
