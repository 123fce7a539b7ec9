import { fileURLToPath } from 'node:url';
import { Failure } from '../../run/failure.ts';
import { quote } from '../../run/log.ts';
import { readTrustedFile } from '../trusted-file.ts';
import { type EndpointKind, type FieldRules, rulesInForce } from './field-rules.ts';
import type { LimitSettings } from './limits.ts';
import { isModelName } from './model-names.ts';
import { FieldJudge } from './request-fields.ts';
import { type JsonObject, type JsonValue, isArray, isObject, pointerStep } from './json-value.ts';
import { readJsonObject } from './strict-json.ts';
import { cachedSearch, isSpelledToolType, knownToolTypes, readToolType } from './tool-types.ts';

/** The schema's file, for who has to mend a policy. It stands in the source, also of the package. */
const schemaFile = fileURLToPath(new URL('../../../src/extras/policy/policy.schema.json', import.meta.url));

/** Largest body that is read whole where the policy does not say. Codex's requests have about 55 KB, images some MB. */
export const defaultMaxBodyBytes = 16 * 1024 * 1024;

/** Most that `max_body_bytes` may be: bodies are held in memory, several at a time. */
const mostBodyBytes = 128 * 1024 * 1024;

/** What the key may be used for, as read from a policy file. */
export interface Policy {
  /** `shadow`: what would be refused is admitted, and recorded as such. */
  readonly mode: 'enforce' | 'shadow';
  /** The whole body must be received before a byte of it goes upstream. */
  readonly readsBody: boolean;
  /** Largest body where `readsBody`. */
  readonly maxBodyBytes: number;
  /** Judges the body's fields; undefined if no rule looks at them. */
  readonly fields: FieldJudge | undefined;
  readonly limits: LimitSettings | undefined;
  /** The ones of `accountHeaders` that a client may set, in lower case. */
  readonly grantedHeaders: readonly string[];
}

/** Headers by which a client chooses who is billed. Every policy refuses them, unless it grants them. */
export const accountHeaders = ['OpenAI-Organization', 'OpenAI-Project'] as const;

const ruleNames = [
  'models',
  'tools',
  'remote_urls',
  'stored_state',
  'background',
  'max_output_tokens',
  'max_body_bytes',
  'stream_only',
  'service_tiers',
  'reasoning_modes',
  'account_headers',
  'fields',
  'limits',
] as const;
const limitNames = ['concurrent', 'requests_per_minute', 'tokens_per_day', 'tokens_total'] as const;

/** The ranges of `limits`. Policy files are written by hand: a larger number is a slip. */
const mostConcurrent = 100_000;
const mostRequestsPerMinute = 100_000;

/**
 * Reads the file of `--policy`, see `parsePolicy`.
 *
 * @param upstreamTarget path and query that requests go to
 * @throws {Failure} also if the file cannot be read, or if requests go to another API than the policy reads them as
 */
export function readPolicy(file: string, endpoint: string, upstreamTarget: string): Policy {
  const policy = parsePolicy(readTrustedFile('--policy', file), endpoint, `--policy ${file}`);
  // A gateway may name its endpoints freely, but not after the other API.
  const [path = ''] = upstreamTarget.split('?', 1);
  const answering = kindOf(path);
  if (policy.fields !== undefined && answering !== 'other' && answering !== kindOf(endpoint)) {
    const hint = 'let --endpoint and --upstream-url name the same API';
    throw new Failure(`--policy ${file}: the policy reads requests as those to ${endpoint}, but they go to ${path}`, { hint });
  }
  return policy;
}

/**
 * Reads a policy. What it may say is in `policy.schema.json`, in the same words.
 *
 * @param text of the file
 * @param endpoint the one that is served: rules about fields are refused for all but /responses and /chat/completions, whose
 *   fields we know
 * @param source what messages call the policy
 * @throws {Failure} with a message that names the place in the file, as a JSON pointer (RFC 6901)
 */
export function parsePolicy(text: string, endpoint: string, source = '--policy'): Policy {
  const reader = new PolicyReader(source);
  const reading = readJsonObject(Buffer.from(text));
  if (reading.kind === 'invalid') throw reader.failure(`${reading.why}${placeIn(text, reading.at)}`, `a policy is one JSON object; ${schemaFile} says what may stand in it`);
  return reader.policy(reading.object, endpoint);
}

/** Where an offset lies, in the words of an editor. */
function placeIn(text: string, offset: number | undefined): string {
  if (offset === undefined) return '';
  const lines = text.slice(0, offset).split('\n');
  return ` at line ${lines.length}, column ${[...(lines.at(-1) ?? '')].length + 1}`;
}

/** Turns the members of a policy into values, or into a failure that says where. */
class PolicyReader {
  readonly #source: string;

  constructor(source: string) {
    this.#source = source;
  }

  policy(file: JsonObject, endpoint: string): Policy {
    this.#onlyKnown(file, '', ['$schema', 'mode', ...ruleNames]);
    if (file.get('$schema') !== undefined && typeof file.get('$schema') !== 'string') throw this.#wrong('/$schema', 'must be a string');
    const mode = file.get('mode') ?? 'enforce';
    if (file.get('mode') === null || (mode !== 'enforce' && mode !== 'shadow')) throw this.#wrong('/mode', 'must be "enforce" or "shadow"');

    const models = this.#list(file, 'models', 'a model name, in which * stands for any characters', isModelName);
    if (models?.length === 0) throw this.#wrong('/models', 'must name a model', 'without "models", all of them are allowed');
    const tools = this.#tools(file);
    const grantedFields = this.#list(file, 'fields', 'the name of a field', isFieldName);
    const rules: FieldRules = {
      models,
      tools,
      remoteUrls: this.#flag(file, 'remote_urls') ?? true,
      storedState: this.#flag(file, 'stored_state') ?? true,
      background: this.#flag(file, 'background') ?? true,
      maxOutputTokens: this.#number(file, '', 'max_output_tokens', Number.MAX_SAFE_INTEGER),
      streamOnly: this.#flag(file, 'stream_only') ?? false,
      serviceTiers: this.#list(file, 'service_tiers', 'the name of a service tier', isFieldName),
      reasoningModes: this.#list(file, 'reasoning_modes', 'the name of a mode', isFieldName),
      fields: grantedFields,
    };
    const headers = this.#list(file, 'account_headers', accountHeaders.join(' or '), (name) => accountHeaders.some((known) => known === name));
    const maxBodyBytes = this.#number(file, '', 'max_body_bytes', mostBodyBytes);
    const limits = this.#limits(file.get('limits'));

    const [first] = rulesInForce(rules);
    if (first === undefined && maxBodyBytes === undefined && limits === undefined && headers === undefined) {
      throw this.failure('restricts nothing', `it takes at least one of ${ruleNames.join(', ')}`);
    }
    const kind = kindOf(endpoint);
    if (first !== undefined && kind === 'other') {
      const hint = 'requests to other endpoints than /responses and /chat/completions can have limits and max_body_bytes';
      throw this.#wrong(pointerStep(first), `does not apply to ${endpoint}`, hint);
    }
    this.#noContradiction(rules);
    const fields = first === undefined ? undefined : new FieldJudge(rules, kind);
    this.#noRefusedField(grantedFields ?? [], fields);
    return Object.freeze({
      mode,
      readsBody: first !== undefined || maxBodyBytes !== undefined,
      maxBodyBytes: maxBodyBytes ?? defaultMaxBodyBytes,
      fields,
      limits,
      grantedHeaders: (headers ?? []).map((name) => name.toLowerCase()),
    });
  }

  failure(what: string, hint: string): Failure {
    return new Failure(`${this.#source}: the policy ${what}`, { hint });
  }

  #wrong(place: string, what: string, hint = `${schemaFile} says what may stand there`): Failure {
    return new Failure(`${this.#source}: ${place} ${what}`, { hint });
  }

  #onlyKnown(object: JsonObject, place: string, known: readonly string[]): void {
    const unknown = [...object.keys()].find((name) => !known.includes(name));
    if (unknown === undefined) return;
    throw this.#wrong(place === '' ? 'the policy' : place, `has an unknown key ${quote(unknown)}`, `it may have ${known.join(', ')}`);
  }

  #limits(value: JsonValue | undefined): LimitSettings | undefined {
    if (value === undefined) return undefined;
    if (!isObject(value)) throw this.#wrong('/limits', 'must be an object');
    this.#onlyKnown(value, '/limits', limitNames);
    if (value.size === 0) throw this.#wrong('/limits', 'sets no limit', `it may have ${limitNames.join(', ')}`);
    return {
      concurrent: this.#number(value, '/limits', 'concurrent', mostConcurrent),
      requestsPerMinute: this.#number(value, '/limits', 'requests_per_minute', mostRequestsPerMinute),
      tokensPerDay: this.#number(value, '/limits', 'tokens_per_day', Number.MAX_SAFE_INTEGER),
      tokensTotal: this.#number(value, '/limits', 'tokens_total', Number.MAX_SAFE_INTEGER),
    };
  }

  #flag(file: JsonObject, name: string): boolean | undefined {
    const value = file.get(name);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.#wrong(pointerStep(name), 'must be true or false');
  }

  #number(object: JsonObject, place: string, name: string, most: number): number | undefined {
    const value = object.get(name);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= most) return value;
    throw this.#wrong(place + pointerStep(name), `must be a whole number from 1 to ${most}`);
  }

  #list(file: JsonObject, name: string, what: string, isValid: (text: string) => boolean): string[] | undefined {
    const value = file.get(name);
    if (value === undefined) return undefined;
    if (!isArray(value)) throw this.#wrong(pointerStep(name), 'must be a list');
    return value.map((item, index) => {
      const place = pointerStep(name) + pointerStep(index);
      if (typeof item !== 'string' || !isValid(item)) throw this.#wrong(place, `must be ${what}`);
      if (value.indexOf(item) < index) throw this.#wrong(place, 'stands there twice');
      return item;
    });
  }

  #tools(file: JsonObject): ReadonlySet<string> | undefined {
    const spelled = this.#list(file, 'tools', 'a tool type', isSpelledToolType);
    if (spelled === undefined) return undefined;
    const types = new Set<string>();
    for (const [index, text] of spelled.entries()) {
      const place = `/tools/${index}`;
      const type = readToolType(text);
      if (type === undefined) {
        const hint = `known are ${[...knownToolTypes, cachedSearch].join(', ')}; write custom:${text} for another one`;
        throw this.#wrong(place, `names an unknown tool type, ${quote(text)}`, hint);
      }
      if (types.has(type)) throw this.#wrong(place, 'stands there twice');
      types.add(type);
    }
    return types;
  }

  #noRefusedField(granted: readonly string[], judge: FieldJudge | undefined): void {
    const refused = judge?.refusedFields();
    for (const [index, field] of granted.entries()) {
      const rule = refused?.get(field);
      if (rule !== undefined) throw this.#wrong(`/fields/${index}`, `allows ${field}, which "${rule}" refuses`, 'leave out the one or the other');
    }
  }

  /** A tool type that `tools` grants and another rule refuses. */
  #noContradiction({ tools, remoteUrls, storedState }: FieldRules): void {
    const barred = [!remoteUrls && (['mcp', 'remote_urls'] as const), !storedState && (['file_search', 'stored_state'] as const)];
    for (const pair of barred) {
      if (pair === false || tools?.has(pair[0]) !== true) continue;
      throw this.#wrong('/tools', `allows ${pair[0]}, which "${pair[1]}": false refuses`, 'leave out the one or the other');
    }
  }
}

/** Printable ASCII without spaces, as in a model name. Whether the API has such a field is the operator's to know. */
function isFieldName(text: string): boolean {
  return /^[!-~]{1,64}$/.test(text);
}

/** By the end of the path: gateways and Azure put a prefix before it. */
function kindOf(endpoint: string): EndpointKind {
  if (endpoint.endsWith('/responses')) return 'responses';
  return endpoint.endsWith('/chat/completions') ? 'chat' : 'other';
}
