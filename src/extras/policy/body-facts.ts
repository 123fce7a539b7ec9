import { type JsonObject, isObject } from './json-value.ts';
import { isModelName } from './model-names.ts';

/** Facts from a request's body, for the audit log. */
export interface BodyFacts {
  /** Printable ASCII; undefined if the request names no model, or something that is no model name. The same holds for the next two. */
  readonly model: string | undefined;
  readonly serviceTier: string | undefined;
  readonly reasoningMode: string | undefined;
  /** Undefined if it is neither true nor false. The API takes a missing one for false. */
  readonly stream: boolean | undefined;
}

export const noFacts: BodyFacts = Object.freeze({ model: undefined, serviceTier: undefined, reasoningMode: undefined, stream: undefined });

export function factsOf(body: JsonObject): BodyFacts {
  const [reasoning, stream] = [body.get('reasoning'), body.get('stream') ?? false];
  const name = (value: unknown): string | undefined => (typeof value === 'string' && isModelName(value) ? value : undefined);
  return {
    model: name(body.get('model')),
    serviceTier: name(body.get('service_tier')),
    reasoningMode: isObject(reasoning) ? name(reasoning.get('mode')) : undefined,
    stream: typeof stream === 'boolean' ? stream : undefined,
  };
}
