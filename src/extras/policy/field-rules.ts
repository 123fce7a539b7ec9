import type { JsonValue } from './json-value.ts';

/** The two kinds of request whose fields we know; `other` is any other JSON endpoint. */
export type EndpointKind = 'responses' | 'chat' | 'other';

export type FieldRule = 'models' | 'tools' | 'remote_urls' | 'stored_state' | 'background' | 'max_output_tokens' | 'stream_only' | 'service_tiers' | 'reasoning_modes' | 'fields';

/** What a request's fields may say. True for a kind of field means that it is allowed. */
export interface FieldRules {
  /** Names, in which `*` stands for any characters; undefined for all. */
  readonly models: readonly string[] | undefined;
  /** Tool types; undefined for all. */
  readonly tools: ReadonlySet<string> | undefined;
  readonly remoteUrls: boolean;
  readonly storedState: boolean;
  readonly background: boolean;
  readonly maxOutputTokens: number | undefined;
  readonly streamOnly: boolean;
  /** What `service_tier` and `reasoning.mode` may name; undefined for all. A request that names none has the project's own. */
  readonly serviceTiers: readonly string[] | undefined;
  readonly reasoningModes: readonly string[] | undefined;
  /** Top-level fields that are granted beyond those that always pass. */
  readonly fields: readonly string[] | undefined;
}

/** The API treats null like an absent field. */
export function isGiven(value: JsonValue | undefined): boolean {
  return value !== undefined && value !== null;
}

/** Which rules of a policy look at fields. */
export function rulesInForce(rules: FieldRules): FieldRule[] {
  const inForce: Record<FieldRule, boolean> = {
    models: rules.models !== undefined,
    tools: rules.tools !== undefined,
    remote_urls: !rules.remoteUrls,
    stored_state: !rules.storedState,
    background: !rules.background,
    max_output_tokens: rules.maxOutputTokens !== undefined,
    stream_only: rules.streamOnly,
    service_tiers: rules.serviceTiers !== undefined,
    reasoning_modes: rules.reasoningModes !== undefined,
    fields: rules.fields !== undefined,
  };
  return (Object.keys(inForce) as FieldRule[]).filter((rule) => inForce[rule]);
}
