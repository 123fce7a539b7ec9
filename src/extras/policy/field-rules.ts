import { type JsonValue, pointerStep } from './json-value.ts';

/** The two kinds of request whose fields we know; `other` is any other JSON endpoint. */
export type EndpointKind = 'responses' | 'chat' | 'other';

export type FieldRule = 'models' | 'tools' | 'remote_urls' | 'stored_state' | 'background' | 'max_output_tokens' | 'stream_only' | 'fields';

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
  /** Top-level fields that are granted beyond those that always pass. */
  readonly fields: readonly string[] | undefined;
}

/** Why a rule refuses a request. */
export interface Objection {
  rule: FieldRule;
  /** Completes "The policy does not allow ...". */
  why: string;
  /** A JSON pointer; empty for the whole body. */
  place: string;
}

/** @param place where in the body, as a JSON pointer */
export function objection(rule: FieldRule, why: string, place = ''): Objection {
  return { rule, why, place };
}

/** The same objection, seen from one level further out. */
export function within(step: string | number, found: Objection): Objection {
  found.place = pointerStep(step) + found.place;
  return found;
}

/** The API treats null like an absent field. */
export function isGiven(value: JsonValue | undefined): boolean {
  return value !== undefined && value !== null;
}

/** The same rules but for one. `fields` alone cannot be left out: it comes with any of the others. */
export function withoutRule(rules: FieldRules, rule: Exclude<FieldRule, 'fields'>): FieldRules {
  const off: Record<typeof rule, Partial<FieldRules>> = {
    models: { models: undefined },
    tools: { tools: undefined },
    remote_urls: { remoteUrls: true },
    stored_state: { storedState: true },
    background: { background: true },
    max_output_tokens: { maxOutputTokens: undefined },
    stream_only: { streamOnly: false },
  };
  return { ...rules, ...off[rule] };
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
    fields: rules.fields !== undefined,
  };
  return (Object.keys(inForce) as FieldRule[]).filter((rule) => inForce[rule]);
}
