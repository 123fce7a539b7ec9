import { type JsonObject } from './json-value.ts';
import { isModelName } from './model-names.ts';

/** Facts from a request's body, for the audit log. */
export interface BodyFacts {
  /** Printable ASCII; undefined if the request names no model, or something that is no model name. */
  readonly model: string | undefined;
  /** Undefined if it is neither true nor false. The API takes a missing one for false. */
  readonly stream: boolean | undefined;
}

export function factsOf(body: JsonObject): BodyFacts {
  const [model, stream] = [body.get('model'), body.get('stream') ?? false];
  return {
    model: typeof model === 'string' && isModelName(model) ? model : undefined,
    stream: typeof stream === 'boolean' ? stream : undefined,
  };
}
