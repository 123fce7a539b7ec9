import { type FieldTable, fieldTable } from './api-fields.ts';
import { type EndpointKind, type FieldRule, type FieldRules, type Objection, isGiven, objection, rulesInForce, within, withoutRule } from './field-rules.ts';
import { isModelName, matchesModel } from './model-names.ts';
import { type NamesRead, addNamesRead, fold, isAscii } from './names-read.ts';
import { type Place, judgeAddress, judgeGrantedText, placeOf, waysOut } from './remote-urls.ts';
import { isReference, judgeStorage, judgeStoredMember, storedIds, storedNames } from './stored-state.ts';
import { type JsonObject, type JsonValue, isArray, isObject, pointerStep } from './json-value.ts';
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

  /** The first objection to a request, in the order of its fields; the ones about the request as a whole come first. */
  judge(body: JsonObject): Objection | undefined {
    return this.#judgeWhole(body) ?? this.#walkTop(body) ?? this.#tools.judgeSearchModel(body) ?? this.#judgeUnknownFields(body);
  }

  /**
   * The objections of all rules, one for each: `judge` stops at the first, so the request is judged again without the rules
   * that have objected. For shadow mode, where it may take several times as long.
   */
  judgeByEach(body: JsonObject): Objection[] {
    const found: Objection[] = [];
    let rules = this.#rules;
    for (let next = this.judge(body); next !== undefined; next = new FieldJudge(rules, this.#endpoint).judge(body)) {
      found.push(next);
      if (next.rule === 'fields') break; // what is unknown is looked for last
      rules = withoutRule(rules, next.rule);
    }
    return found;
  }

  #innerNamesRead(): NamesRead {
    const { models, remoteUrls, storedState } = this.#rules;
    const names: NamesRead = new Map();
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
  #judgeWhole(body: JsonObject): Objection | undefined {
    const { models, storedState, background, streamOnly } = this.#rules;
    if (models !== undefined && typeof body.get('model') !== 'string') return objection('models', 'a request that names no model', '/model');
    if (streamOnly && body.get('stream') !== true) return objection('stream_only', 'a request without "stream": true', '/stream');
    if (!background && isGiven(body.get('background')) && body.get('background') !== false) {
      return objection('background', 'work in the background', '/background');
    }
    return this.#judgeTokens(body) ?? (storedState ? undefined : judgeStorage(body)) ?? this.#judgeRefused(body) ?? this.#tools.judgeToolChoice(body);
  }

  #tokenFields(): string[] {
    return this.#endpoint === 'chat' ? ['max_completion_tokens', 'max_tokens'] : ['max_output_tokens'];
  }

  /** Without a bound of its own an answer may be as long as the model likes. Chat bounds each of its `n` answers. */
  #judgeTokens(body: JsonObject): Objection | undefined {
    const most = this.#rules.maxOutputTokens;
    if (most === undefined) return undefined;
    const fields = this.#tokenFields();
    const given = fields.filter((field) => isGiven(body.get(field)));
    if (given.length === 0) return objection('max_output_tokens', `a request without ${fields[0]}`, pointerStep(fields[0] ?? ''));
    const answers = this.#endpoint === 'chat' && isGiven(body.get('n')) ? body.get('n') : 1;
    if (!isPositiveInteger(answers)) return objection('max_output_tokens', 'an n that is no whole number', '/n');
    for (const field of given) {
      const tokens = body.get(field);
      if (!isPositiveInteger(tokens) || tokens * answers > most) {
        return objection('max_output_tokens', `more than ${most} output tokens, or what is no number of tokens`, pointerStep(field));
      }
    }
    return undefined;
  }

  #judgeRefused(body: JsonObject): Objection | undefined {
    const found = this.#refusedFields.find(([field]) => isGiven(body.get(field)));
    return found && objection(found[1], found[2], pointerStep(found[0]));
  }

  /** Comes last: a rule that finds something inside of an unknown field says more of it. */
  #judgeUnknownFields(body: JsonObject): Objection | undefined {
    for (const name of body.keys()) {
      if (this.#allowedFields.has(name)) continue;
      const why = (Object.hasOwn(this.#table, name) ? this.#table[name]?.granted : undefined) ?? 'the published API does not have it';
      return objection('fields', `a field that the policy does not grant (${why})`, pointerStep(name));
    }
    return undefined;
  }

  #walkTop(body: JsonObject): Objection | undefined {
    for (const [name, value] of body) {
      const found = this.#judgeTopMember(name, value, body);
      if (found !== undefined) return within(name, found);
    }
    return undefined;
  }

  #judgeTopMember(name: string, value: JsonValue, body: JsonObject): Objection | undefined {
    const folded = fold(name);
    const misnamed = judgeName(name, folded, this.#topNames);
    if (misnamed !== undefined) return misnamed;
    if (value === null || freeFormAtTop.has(name)) return undefined;
    const place = !Object.hasOwn(this.#table, name) ? 'granted' : itemFields.has(name) && this.#endpoint === 'responses' ? 'items' : 'plain';
    return this.#judgeMember(name, folded, value, body, place) ?? this.#walkValue(value, place);
  }

  #walkValue(value: JsonValue, place: Place): Objection | undefined {
    if (isObject(value)) return this.#walkObject(value, place);
    if (!isArray(value)) return undefined;
    for (const [index, item] of value.entries()) {
      const isText = place === 'granted' && typeof item === 'string' && !this.#rules.remoteUrls;
      const found = isText ? judgeGrantedText(item) : this.#walkValue(item, place);
      if (found !== undefined) return within(index, found);
    }
    return undefined;
  }

  #walkObject(object: JsonObject, place: Place): Objection | undefined {
    if (place === 'items' && !this.#rules.storedState && isReference(object)) {
      return objection('stored_state', 'an item that is a reference to a stored one');
    }
    const typed = this.#judgeType(object.get('type')) ?? (place === 'items' ? this.#tools.judgeItemType(object.get('type')) : undefined);
    if (typed !== undefined) return within('type', typed);
    for (const [name, value] of object) {
      if (value === null || (place !== 'granted' && freeFormInside.get(name)?.has(object.get('type')) === true)) continue;
      const found = this.#judgeInnerMember(name, value, object, place);
      if (found !== undefined) return within(name, found);
    }
    return undefined;
  }

  #judgeInnerMember(name: string, value: JsonValue, object: JsonObject, place: Place): Objection | undefined {
    const folded = fold(name);
    const misnamed = judgeName(name, folded, this.#innerNames);
    if (misnamed !== undefined) return misnamed;
    return this.#judgeMember(name, folded, value, object, place) ?? (typeof value === 'object' ? this.#walkValue(value, placeOf(name, object, place)) : undefined);
  }

  /** What the rules say of one member, its inside apart. `value` is not null. */
  #judgeMember(name: string, folded: string, value: JsonValue, object: JsonObject, place: Place): Objection | undefined {
    const { models, remoteUrls, storedState } = this.#rules;
    if (models !== undefined && (folded.endsWith('model') || folded.endsWith('models'))) {
      const found = judgeModels(value, models);
      if (found !== undefined) return found;
    }
    if (name === 'tools') {
      const isMcpList = place === 'items' && object.get('type') === 'mcp_list_tools';
      const found = isMcpList ? this.#tools.judgeMcpToolList(value) : this.#tools.judgeTools(value);
      if (found !== undefined) return found;
    }
    const found = storedState ? undefined : judgeStoredMember(name, value);
    return found ?? (remoteUrls ? undefined : judgeAddress(name, folded, value, object, place));
  }

  #judgeType(type: JsonValue | undefined): Objection | undefined {
    const { typeRule } = this.#tools;
    if (typeRule === undefined || !isGiven(type)) return undefined;
    if (typeof type !== 'string' || !/^[\x20-\x7e]*$/.test(type)) return objection(typeRule, 'a type that is no name');
    if (this.#rules.storedState || type.length > maxReferenceTypeLength) return undefined;
    return fold(type) === 'itemreference' ? objection('stored_state', 'a reference to a stored item') : undefined;
  }
}

/** Go's encoding/json takes "Model" for "model", protobuf takes "toolChoice" for "tool_choice". */
function judgeName(name: string, folded: string, namesRead: NamesRead): Objection | undefined {
  if (!isAscii(name)) return objection('fields', 'a name beyond ASCII, outside of what a client makes up');
  const known = namesRead.get(folded);
  if (known === undefined || known.name === name) return undefined;
  return objection(known.rule, `a name that differs from "${known.name}" in case or punctuation alone`);
}

function isPositiveInteger(value: JsonValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function judgeModels(value: JsonValue, allowed: readonly string[]): Objection | undefined {
  for (const model of isArray(value) ? value : [value]) {
    if (typeof model !== 'string' || !isModelName(model)) return objection('models', 'a model that is no name');
    if (!allowed.some((pattern) => matchesModel(model, pattern))) return objection('models', `the model ${quoted(model)}`);
  }
  return undefined;
}
