import { type FieldTable, fieldTable } from './api-fields.ts';
import { type EndpointKind, type FieldRule, type FieldRules, isGiven, rulesInForce } from './field-rules.ts';
import { Findings, type Objection } from './findings.ts';
import { knownItemTypes } from './item-types.ts';
import { isModelName, matchesModel } from './model-names.ts';
import { type NamesRead, addNamesRead, fold, isAscii } from './names-read.ts';
import { type Place, judgeAddress, judgeWayOut, placeOf, waysOut } from './remote-urls.ts';
import { isReference, judgeStorage, judgeStoredMember, storedIds, storedNames } from './stored-state.ts';
import { type JsonObject, type JsonValue, isArray, isObject } from './json-value.ts';
import { ToolJudge, quoted } from './tool-judge.ts';

/** Top-level members that hold what a client made up: the API reads no tool, file or address in them. */
const freeFormAtTop: ReadonlySet<string> = new Set(['metadata', 'client_metadata', 'logit_bias']);

/**
 * The same further inside: schemas, maps, arguments, each in the types of things that have them. A function may well have a
 * parameter named `file_url`. `undefined`: things that have no type, such as `function` in a tool of chat completions.
 */
const freeFormInside: ReadonlyMap<string, ReadonlySet<JsonValue | undefined>> = new Map<string, ReadonlySet<JsonValue | undefined>>([
  ['parameters', new Set([undefined, 'function', 'tool_search'])],
  ['input_schema', new Set([undefined])],
  ['output_schema', new Set(['function'])],
  ['schema', new Set([undefined, 'json_schema'])],
  ['arguments', new Set([undefined, 'function_call', 'tool_search_call', 'mcp_call', 'mcp_approval_request'])],
  ['headers', new Set(['mcp'])],
  ['env', new Set(['exec'])],
]);

/** Enough of a type to tell that it is `item_reference`, however it is written. */
const maxReferenceTypeLength = 64;

/** Lists of input items. The API's own answers have `instructions` in this form too. */
const itemFields: ReadonlySet<string> = new Set(['input', 'instructions']);

/** Judges the fields of a request by the rules of a policy. */
export class FieldJudge {
  readonly #rules: FieldRules;
  readonly #endpoint: EndpointKind;
  readonly #table: FieldTable;
  readonly #tools: ToolJudge;
  readonly #topNames: NamesRead;
  readonly #innerNames: NamesRead;
  /** Top-level fields that may be there, as far as `fields` is concerned. */
  readonly #allowedFields: ReadonlySet<string>;
  /** Top-level fields that must not be there, each by the first rule that refuses it. */
  readonly #refusedFields: ReadonlyArray<readonly [field: string, rule: FieldRule, why: string]>;

  constructor(rules: FieldRules, endpoint: EndpointKind) {
    this.#rules = rules;
    this.#endpoint = endpoint;
    this.#table = fieldTable(endpoint);
    this.#tools = new ToolJudge(rules);
    const verdicts = Object.entries(this.#table);
    const passing = verdicts.filter(([, { granted }]) => granted === undefined).map(([field]) => field);
    this.#allowedFields = new Set([...passing, ...(rules.fields ?? [])]);
    this.#refusedFields = rulesInForce(rules).flatMap((rule) =>
      verdicts.flatMap(([field, { refused }]) => (refused?.[rule] === undefined ? [] : [[field, rule, refused[rule]] as const])),
    );
    this.#innerNames = this.#innerNamesRead();
    this.#topNames = this.#topNamesRead();
  }

  /** Fields that these rules refuse even if `fields` grants them, each with its rule. */
  refusedFields(): ReadonlyMap<string, FieldRule> {
    return new Map(this.#refusedFields.map(([field, rule]) => [field, rule]));
  }

  /** The objections to a request, one for each rule, in the order of its fields; the ones about the request as a whole come first. */
  judge(body: JsonObject): readonly Objection[] {
    const findings = new Findings();
    this.#judgeWhole(body, findings);
    for (const [name, value] of body) findings.within(name, () => this.#judgeTopMember(name, value, body, findings));
    this.#tools.judgeSearchModel(body, findings);
    this.#judgeUnknownFields(body, findings);
    return findings.all;
  }

  #innerNamesRead(): NamesRead {
    const { models, remoteUrls, storedState, serviceTiers, reasoningModes } = this.#rules;
    const names: NamesRead = new Map();
    if (serviceTiers !== undefined) addNamesRead(names, 'service_tiers', 'service_tier');
    if (reasoningModes !== undefined) addNamesRead(names, 'reasoning_modes', 'reasoning', 'mode');
    if (models !== undefined) addNamesRead(names, 'models', 'model', 'models');
    if (!storedState) addNamesRead(names, 'stored_state', ...storedIds, ...storedNames);
    if (!remoteUrls) addNamesRead(names, 'remote_urls', ...waysOut, 'external_web_access', 'environment', 'container', 'container_id');
    const { typeRule } = this.#tools;
    if (typeRule !== undefined) addNamesRead(names, typeRule, 'type', 'tools');
    return names;
  }

  #topNamesRead(): NamesRead {
    const { storedState, background, maxOutputTokens, streamOnly } = this.#rules;
    const { typeRule } = this.#tools;
    const names: NamesRead = new Map();
    if (typeRule !== undefined) addNamesRead(names, typeRule, 'tool_choice', 'functions', 'function_call', 'web_search_options', 'model');
    for (const [folded, known] of this.#innerNames) names.set(folded, known);
    for (const [field, rule] of this.#refusedFields) addNamesRead(names, rule, field);
    if (!storedState) addNamesRead(names, 'stored_state', 'store', 'input', 'instructions', 'prompt_cache_retention');
    if (!background) addNamesRead(names, 'background', 'background');
    if (maxOutputTokens !== undefined) addNamesRead(names, 'max_output_tokens', ...this.#tokenFields(), 'n');
    if (streamOnly) addNamesRead(names, 'stream_only', 'stream');
    return names;
  }

  /** What the request's own members say, and what they leave unsaid. */
  #judgeWhole(body: JsonObject, findings: Findings): void {
    const { models, storedState, background, streamOnly } = this.#rules;
    if (models !== undefined && typeof body.get('model') !== 'string') findings.add('models', 'a request that names no model', 'model');
    if (streamOnly && body.get('stream') !== true) findings.add('stream_only', 'a request without "stream": true', 'stream');
    if (!background && (body.get('background') ?? false) !== false) findings.add('background', 'work in the background', 'background');
    this.#judgeTokens(body, findings);
    if (!storedState) judgeStorage(body, findings);
    for (const [field, rule, why] of this.#refusedFields) if (isGiven(body.get(field))) findings.add(rule, why, field);
    this.#tools.judgeToolChoice(body, findings);
  }

  #tokenFields(): string[] {
    return this.#endpoint === 'chat' ? ['max_completion_tokens', 'max_tokens'] : ['max_output_tokens'];
  }

  /** Without a bound of its own an answer may be as long as the model likes. Chat bounds each of its `n` answers. */
  #judgeTokens(body: JsonObject, findings: Findings): void {
    const most = this.#rules.maxOutputTokens;
    if (most === undefined) return;
    const fields = this.#tokenFields();
    const given = fields.filter((field) => isGiven(body.get(field)));
    if (given.length === 0) findings.add('max_output_tokens', `a request without ${fields[0]}`, ...fields.slice(0, 1));
    const answers = (this.#endpoint === 'chat' ? body.get('n') : undefined) ?? 1;
    if (!isPositiveInteger(answers)) return findings.add('max_output_tokens', 'an n that is no whole number', 'n');
    for (const field of given) {
      const tokens = body.get(field);
      if (isPositiveInteger(tokens) && tokens * answers <= most) continue;
      findings.add('max_output_tokens', `more than ${most} output tokens, or what is no number of tokens`, field);
    }
  }

  /** Comes last: a rule that finds something inside of an unknown field says more of it. */
  #judgeUnknownFields(body: JsonObject, findings: Findings): void {
    for (const name of body.keys()) {
      if (this.#allowedFields.has(name)) continue;
      const why = (Object.hasOwn(this.#table, name) ? this.#table[name]?.granted : undefined) ?? 'the published API does not have it';
      findings.add('fields', `a field that the policy does not grant (${why})`, name);
    }
  }

  #judgeTopMember(name: string, value: JsonValue, body: JsonObject, findings: Findings): void {
    const folded = fold(name);
    judgeName(name, folded, this.#topNames, findings);
    if (value === null || freeFormAtTop.has(name)) return;
    this.#judgeMember(name, folded, value, body, findings);
    this.#walk(value, this.#topPlace(name, folded, value), findings);
  }

  #topPlace(name: string, folded: string, value: JsonValue): Place {
    const isKnown = Object.hasOwn(this.#table, name);
    if (isKnown && itemFields.has(name) && this.#endpoint === 'responses' && typeof value !== 'string') return 'items';
    const place = placeOf(name, folded, new Map(), isKnown ? 'inside' : 'unknown');
    // A text of the request's own, or a list of them, is none that the API calls.
    return place === 'inside' ? 'words' : place;
  }

  /** `value` is not null, unless it is in a list. */
  #walk(value: JsonValue, place: Place, findings: Findings): void {
    if (isObject(value)) {
      this.#walkObject(value, place, findings);
    } else if (isArray(value)) {
      for (const [index, item] of value.entries()) findings.within(index, () => this.#walk(item, place, findings));
    } else if (!this.#rules.remoteUrls && value !== null) {
      judgeAddress(value, place, findings);
    }
  }

  #walkObject(object: JsonObject, place: Place, findings: Findings): void {
    const type = object.get('type');
    if (place === 'items') {
      if (!this.#rules.storedState && isReference(object)) findings.add('stored_state', 'an item that is a reference to a stored one');
      this.#judgeItemType(type, findings);
    }
    this.#judgeType(type, findings);
    for (const [name, value] of object) {
      if (value === null || (place !== 'unknown' && place !== 'url' && freeFormInside.get(name)?.has(type) === true)) continue;
      const folded = fold(name);
      findings.within(name, () => {
        judgeName(name, folded, this.#innerNames, findings);
        this.#judgeMember(name, folded, value, object, findings, place);
        this.#walk(value, placeOf(name, folded, object, place), findings);
      });
    }
  }

  /** What the rules say of one member, its inside apart. `value` is not null. */
  #judgeMember(name: string, folded: string, value: JsonValue, object: JsonObject, findings: Findings, place?: Place): void {
    const { models, remoteUrls, storedState, serviceTiers, reasoningModes } = this.#rules;
    if (name === 'service_tier' && !isGranted(value, serviceTiers)) findings.add('service_tiers', `the service tier ${shown(value)}`);
    if (name === 'reasoning' && reasoningModes !== undefined) judgeMode(value, reasoningModes, findings);
    if (models !== undefined && place !== 'report' && (folded.endsWith('model') || folded.endsWith('models'))) judgeModels(value, models, findings);
    if (name === 'tools') {
      const isMcpList = place === 'items' && object.get('type') === 'mcp_list_tools';
      if (isMcpList) this.#tools.judgeMcpToolList(value, findings);
      else this.#tools.judgeTools(value, findings);
    }
    if (!storedState) judgeStoredMember(name, value, findings);
    if (!remoteUrls) judgeWayOut(name, value, findings);
  }

  #judgeItemType(type: JsonValue | undefined, findings: Findings): void {
    const { remoteUrls, storedState } = this.#rules;
    this.#tools.judgeItemType(type, findings);
    if (typeof type !== 'string' || knownItemTypes.has(type)) return;
    if (!remoteUrls) findings.add('remote_urls', `the unknown item type ${quoted(type)}`, 'type');
    if (!storedState) findings.add('stored_state', `the unknown item type ${quoted(type)}`, 'type');
  }

  #judgeType(type: JsonValue | undefined, findings: Findings): void {
    const { typeRule } = this.#tools;
    if (typeRule === undefined || !isGiven(type)) return;
    if (typeof type !== 'string' || !/^[\x20-\x7e]*$/.test(type)) return findings.add(typeRule, 'a type that is no name', 'type');
    const isReferenceType = type.length <= maxReferenceTypeLength && fold(type) === 'itemreference';
    if (isReferenceType && !this.#rules.storedState) findings.add('stored_state', 'a reference to a stored item', 'type');
  }
}

/** Go's encoding/json takes "Model" for "model", protobuf takes "toolChoice" for "tool_choice". */
function judgeName(name: string, folded: string, namesRead: NamesRead, findings: Findings): void {
  const known = namesRead.get(folded);
  if (!isAscii(name)) findings.add('fields', 'a name beyond ASCII, outside of what a client makes up');
  else if (known !== undefined && known.name !== name) findings.add(known.rule, `a name that differs from "${known.name}" in case or punctuation alone`);
}

function isPositiveInteger(value: JsonValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function isGranted(value: JsonValue, granted: readonly string[] | undefined): boolean {
  return granted === undefined || (typeof value === 'string' && granted.includes(value));
}

/** A chat message of some gateways has its `reasoning` as text, which is no mode. */
function judgeMode(reasoning: JsonValue, granted: readonly string[], findings: Findings): void {
  const mode = isObject(reasoning) ? (reasoning.get('mode') ?? null) : null;
  if (isArray(reasoning)) findings.add('reasoning_modes', 'reasoning that is a list');
  if (mode !== null && !isGranted(mode, granted)) findings.add('reasoning_modes', `the reasoning mode ${shown(mode)}`, 'mode');
}

function shown(value: JsonValue): string {
  return typeof value === 'string' ? quoted(value) : 'that is no name';
}

function judgeModels(value: JsonValue, allowed: readonly string[], findings: Findings): void {
  for (const model of isArray(value) ? value : [value]) {
    if (typeof model !== 'string' || !isModelName(model)) findings.add('models', 'a model that is no name');
    else if (!allowed.some((pattern) => matchesModel(model, pattern))) findings.add('models', `the model ${quoted(model)}`);
  }
}
