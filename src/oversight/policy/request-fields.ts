import { isModelName, matchesModel } from './model-names.ts';
import { LastDocument } from './last-document.ts';
import { type JsonObject, type JsonValue, isArray, isObject, pointerStep } from './strict-json.ts';

/** The two kinds of request whose fields we know; `other` is any other JSON endpoint. */
export type EndpointKind = 'responses' | 'chat' | 'other';

export type FieldRule = 'models' | 'tools' | 'remote_urls' | 'stored_state' | 'background' | 'max_output_tokens' | 'stream_only';

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
}

/** What a rule has against a request. */
export interface Objection {
  rule: FieldRule;
  /** Completes "The policy does not allow ...". */
  why: string;
  /** A JSON pointer; empty for the whole body. */
  place: string;
}

/** The tool types of the API as of openai-node 6.49: the ones we can say of where they lead. */
const knownToolTypes: ReadonlySet<string> = new Set([
  ...['function', 'custom', 'namespace', 'tool_search', 'programmatic_tool_calling'],
  ...['local_shell', 'shell', 'apply_patch', 'computer', 'computer_use', 'computer_use_preview'],
  ...['web_search', 'web_search_2025_08_26', 'web_search_preview', 'web_search_preview_2025_03_11'],
  ...['code_interpreter', 'image_generation', 'file_search', 'mcp'],
]);

/**
 * Members that hold what a client made up: schemas, maps, arguments. The API reads no tool, file or address in them, and
 * a function may well have a parameter named `file_url`.
 */
const freeForm: ReadonlySet<string> = new Set([
  ...['parameters', 'input_schema', 'output_schema', 'schema', 'arguments'],
  ...['metadata', 'client_metadata', 'headers', 'env', 'logit_bias'],
]);

/** What the API finds among its own stored objects, at the top level of a request and anywhere in it. */
const storedAtTop = ['previous_response_id', 'conversation', 'prompt'] as const;
const storedAnywhere: ReadonlySet<string> = new Set(['file_id', 'file_ids', 'container_id', 'skill_id', 'vector_store_ids', 'comparison_response_id']);

/** Ways out of OpenAI's servers, beside the URLs. */
const waysOut: ReadonlySet<string> = new Set(['connector_id', 'tunnel_id', 'network_policy']);

/** Base64 in the API; some compatible servers also take a URL there. Compared without case and punctuation. */
const inlineData: ReadonlySet<string> = new Set(['data', 'filedata', 'file', 'image', 'audio', 'video']);

/** Nobody takes a name longer than this for one of ours. */
const maxFoldedLength = 32;

/** Enough of a text to see whether it begins like a URL. */
const urlBeginning = 64;

/** The search tools that can do with what OpenAI has found before. The older ones do not ask. */
const searchesOffline: ReadonlySet<JsonValue | undefined> = new Set(['web_search', 'web_search_2025_08_26']);

/** Chat models that search the web before each answer, whether a request asks for it or not. */
const searchModel = /-search(-|$)/i;

/** What the model did or said before may cite addresses; nobody fetches them again. */
const citingTypes: ReadonlySet<JsonValue | undefined> = new Set(['url_citation', 'web_search_call']);
/** Where in these an address stands, if it does not stand in them themselves. Whatever else they hold is no citation. */
const citingMembers: ReadonlySet<string> = new Set(['url_citation', 'action', 'sources']);

/** Members of an input item that are no content of it: an item with an id and no more is a reference to a stored one. */
const labels: ReadonlySet<string> = new Set(['id', 'type', 'status', 'role', 'phase', 'summary']);
/** These are looked up by their id unless they bring this along. */
const contentOf: ReadonlyMap<JsonValue | undefined, readonly string[]> = new Map([
  ['reasoning', ['encrypted_content', 'content']],
  ['image_generation_call', ['result']],
]);

/** The names that some rule reads, by their folded form. */
type NamesRead = Map<string, { name: string; rule: FieldRule }>;

/** Where the walk is. */
interface Holder {
  object: JsonObject;
  /** A `url` is a citation here. */
  cites: boolean;
}

/** Judges the fields of a request by the rules of a policy. */
export class FieldJudge {
  readonly #rules: FieldRules;
  readonly #endpoint: EndpointKind;
  readonly #topNames: NamesRead;
  readonly #innerNames: NamesRead;
  /** For the reader of what is judged here. */
  readonly last = new LastDocument();
  /** Items of the last request, in lists, that have nothing against them where `cites` is not set; and of this one. */
  #passed: ReadonlySet<JsonObject> = new Set();
  #passing = new Set<JsonObject>();
  /** The last request as a whole, and what was found in it. */
  #judged: { body: JsonObject; found: Objection | undefined } | undefined;
  /** The rule that answers for tools and for the types of things; undefined where nobody wants to know them. */
  readonly #typeRule: FieldRule | undefined;

  constructor(rules: FieldRules, endpoint: EndpointKind) {
    this.#rules = rules;
    this.#endpoint = endpoint;
    this.#typeRule = rules.tools !== undefined ? 'tools' : !rules.remoteUrls ? 'remote_urls' : !rules.storedState ? 'stored_state' : undefined;
    this.#innerNames = this.#innerNamesRead();
    this.#topNames = this.#topNamesRead();
  }

  /** The first objection to a request, in the order of its fields; the ones about the request as a whole come first. */
  judge(body: JsonObject): Objection | undefined {
    if (this.#judged?.body === body) return this.#judged.found;
    this.#passing = new Set();
    const found = this.#judgeWhole(body) ?? this.#walkObject({ object: body, cites: false }, this.#topNames) ?? this.#judgeSearchModel(body);
    this.#passed = this.#passing;
    this.#judged = { body, found };
    return found;
  }

  #innerNamesRead(): NamesRead {
    const { models, remoteUrls, storedState } = this.#rules;
    const names: NamesRead = new Map();
    if (models !== undefined) read(names, 'models', 'model', 'models');
    if (!storedState) read(names, 'stored_state', ...storedAnywhere, 'container');
    if (!remoteUrls) read(names, 'remote_urls', ...waysOut);
    if (this.#typeRule !== undefined) read(names, this.#typeRule, 'type', 'tools');
    return names;
  }

  #topNamesRead(): NamesRead {
    const { storedState, background, maxOutputTokens, streamOnly } = this.#rules;
    const names: NamesRead = new Map();
    if (this.#typeRule !== undefined) read(names, this.#typeRule, 'tool_choice', 'functions', 'function_call', 'web_search_options', 'prompt', 'model');
    for (const [folded, known] of this.#innerNames) names.set(folded, known);
    if (!storedState) read(names, 'stored_state', 'store', ...storedAtTop, 'input');
    if (!background) read(names, 'background', 'background');
    if (maxOutputTokens !== undefined) read(names, 'max_output_tokens', ...this.#tokenFields(), 'n');
    if (streamOnly) read(names, 'stream_only', 'stream');
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
    return this.#judgeTokens(body) ?? (storedState ? undefined : this.#judgeState(body)) ?? this.#judgeToolChoice(body);
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

  /** For /responses the API stores what does not say otherwise; for chat completions it stores what says so. */
  #judgeState(body: JsonObject): Objection | undefined {
    const store = body.get('store');
    const keptBack = store === false || (this.#endpoint === 'chat' && !isGiven(store));
    if (!keptBack) return objection('stored_state', 'a stored answer: "store": false is missing', '/store');
    const reference = storedAtTop.find((field) => isGiven(body.get(field)));
    if (reference !== undefined) return objection('stored_state', reference, pointerStep(reference));
    const input = body.get('input');
    const index = isArray(input) ? input.findIndex(isReference) : -1;
    return index === -1 ? undefined : objection('stored_state', 'an item that is a reference to a stored one', `/input/${index}`);
  }

  /** What a request says of tools beside the lists of them, which the walk finds wherever they are. */
  #judgeToolChoice(body: JsonObject): Objection | undefined {
    const rule = this.#typeRule;
    if (rule === undefined) return undefined;
    // Nobody here can see what a stored prompt says.
    if (isGiven(body.get('prompt'))) return objection(rule, 'a stored prompt, which can bring tools of its own', '/prompt');
    const [choice, functions, call, search] = ['tool_choice', 'functions', 'function_call', 'web_search_options'].map((name) => body.get(name));
    if (isObject(choice)) {
      const found = choice.get('type') === 'allowed_tools' ? undefined : this.#judgeTool(choice);
      if (found !== undefined) return { ...found, place: `/tool_choice${found.place}` };
    } else if (isGiven(choice) && choice !== 'none' && choice !== 'auto' && choice !== 'required') {
      return objection(rule, 'an unknown tool_choice', '/tool_choice');
    }
    // Chat's older names for tools of the type `function`, and its own way to ask for a search.
    const asked = [isGiven(functions) && 'functions', isGiven(call) && call !== 'none' && 'function_call'].find((field) => field !== false);
    const found = asked === undefined ? undefined : this.#judgeToolType('function');
    if (found !== undefined) return { ...found, place: pointerStep(asked ?? '') };
    return isGiven(search) ? this.#judgeWebSearch('/web_search_options') : undefined;
  }

  #judgeSearchModel(body: JsonObject): Objection | undefined {
    return this.#typeRule !== undefined && searchModel.test(String(body.get('model'))) ? this.#judgeWebSearch('/model') : undefined;
  }

  /** A search that is asked for without a tool in a list. */
  #judgeWebSearch(place: string): Objection | undefined {
    const found = this.#judgeToolType('web_search') ?? this.#judgeSearch(new Map([['type', 'web_search']]));
    return found && { ...found, place };
  }

  #walk(value: JsonValue, cites: boolean): Objection | undefined {
    if (isObject(value)) return this.#walkObject({ object: value, cites }, this.#innerNames);
    if (!isArray(value)) return undefined;
    for (const [index, item] of value.entries()) {
      // The reader takes over what the last request said in the same way, so an item can be the very same.
      const found = !cites && this.#hasPassed(item) ? undefined : this.#walk(item, cites);
      if (found !== undefined) return within(index, found);
      if (!cites && isObject(item)) this.#passing.add(item);
    }
    return undefined;
  }

  #hasPassed(item: JsonValue): boolean {
    return isObject(item) && this.#passed.has(item);
  }

  #walkObject({ object, cites }: Holder, namesRead: NamesRead): Objection | undefined {
    const typed = this.#judgeType(object.get('type'));
    if (typed !== undefined) return within('type', typed);
    const holder: Holder = { object, cites: cites || citingTypes.has(object.get('type')) };
    for (const [name, value] of object) {
      if (value === null || freeForm.has(name)) continue;
      const folded = fold(name);
      const known = namesRead.get(folded);
      if (known !== undefined && known.name !== name) {
        // Go's encoding/json takes "Model" for "model", protobuf takes "toolChoice" for "tool_choice".
        return within(name, objection(known.rule, `a name that differs from "${known.name}" in case or punctuation alone`));
      }
      const found = this.#judgeMember(name, folded, value, holder) ?? this.#walk(value, holder.cites && citingMembers.has(name));
      if (found !== undefined) return within(name, found);
    }
    return undefined;
  }

  /** What the rules say of one member, its inside apart. `value` is not null. */
  #judgeMember(name: string, folded: string, value: JsonValue, { object, cites }: Holder): Objection | undefined {
    const { models, remoteUrls, storedState } = this.#rules;
    if (models !== undefined && (name === 'model' || name === 'models')) return judgeModels(value, models);
    if (name === 'tools' && this.#typeRule !== undefined) {
      // What an MCP server once said of its tools; they have no types.
      return object.get('type') === 'mcp_list_tools' ? this.#judgeToolType('mcp') : this.#judgeTools(value, this.#typeRule);
    }
    if (!storedState) {
      if (storedAnywhere.has(name)) return objection('stored_state', name);
      if (name === 'container' && typeof value === 'string') return objection('stored_state', 'a container that exists already');
      // Chat: what the assistant said aloud in an earlier answer.
      if (name === 'audio' && isObject(value) && isGiven(value.get('id'))) return objection('stored_state', 'a stored audio answer');
    }
    if (remoteUrls) return undefined;
    if (waysOut.has(name)) {
      const isClosed = name === 'network_policy' && isObject(value) && value.get('type') === 'disabled';
      return isClosed ? undefined : objection('remote_urls', name);
    }
    if (isUrlName(folded)) return cites && name === 'url' ? undefined : judgeUrl(value);
    if (inlineData.has(folded) && typeof value === 'string' && isUrl(value)) return objection('remote_urls', 'a URL in the place of data');
    return undefined;
  }

  #judgeTools(tools: JsonValue, rule: FieldRule): Objection | undefined {
    if (!isArray(tools)) return objection(rule, 'tools that are no list');
    for (const [index, tool] of tools.entries()) {
      const found = isObject(tool) ? (this.#judgeTool(tool) ?? this.#judgeSearch(tool)) : objection(rule, 'a tool that is no object');
      if (found !== undefined) return within(index, found);
    }
    return undefined;
  }

  #judgeTool(tool: JsonObject): Objection | undefined {
    const found = this.#judgeToolType(tool.get('type'));
    return found && within('type', found);
  }

  /** A search that may open pages calls whatever address the model is told. Named in `tools`, it is meant to. */
  #judgeSearch(tool: JsonObject): Objection | undefined {
    const { tools, remoteUrls } = this.#rules;
    const type = tool.get('type');
    const isOffline = searchesOffline.has(type) && tool.get('external_web_access') === false;
    const isLive = String(type).startsWith('web_search') && !isOffline;
    return !remoteUrls && tools === undefined && isLive ? objection('remote_urls', 'a web search with live access', '/type') : undefined;
  }

  #judgeToolType(type: JsonValue | undefined): Objection | undefined {
    const { tools, remoteUrls, storedState } = this.#rules;
    if (this.#typeRule === undefined) return undefined;
    if (typeof type !== 'string') return objection(this.#typeRule, 'a tool without a type');
    if (tools !== undefined && !tools.has(type)) return objection('tools', `the tool type ${quoted(type)}`);
    if (!remoteUrls && type === 'mcp') return objection('remote_urls', 'an MCP server');
    if (!storedState && type === 'file_search') return objection('stored_state', 'file_search');
    // Named in `tools`, a new type is known to whoever wrote the policy.
    if (tools === undefined && !knownToolTypes.has(type)) return objection(this.#typeRule, `the unknown tool type ${quoted(type)}`);
    return undefined;
  }

  #judgeType(type: JsonValue | undefined): Objection | undefined {
    if (this.#typeRule === undefined || !isGiven(type)) return undefined;
    if (typeof type !== 'string' || !/^[\x20-\x7e]*$/.test(type)) return objection(this.#typeRule, 'a type that is no name');
    const isStored = !this.#rules.storedState && type.length < urlBeginning && fold(type) === 'itemreference';
    return isStored ? objection('stored_state', 'a reference to a stored item') : undefined;
  }
}

function read(names: NamesRead, rule: FieldRule, ...all: string[]): void {
  for (const name of all) names.set(fold(name), { name, rule });
}

function objection(rule: FieldRule, why: string, place = ''): Objection {
  return { rule, why, place };
}

function within(step: string | number, found: Objection): Objection {
  found.place = pointerStep(step) + found.place;
  return found;
}

/** In the API, null is as good as nothing. */
function isGiven(value: JsonValue | undefined): boolean {
  return value !== undefined && value !== null;
}

function isPositiveInteger(value: JsonValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/** A name as the most lenient reader would see it: in Unicode's compatibility form, without case and punctuation. */
function fold(name: string): string {
  // Nearly all names are like this.
  if (/^[a-z0-9_]*$/.test(name)) return name.includes('_') ? name.replaceAll('_', '') : name;
  if (name.length > maxFoldedLength) return name.toLowerCase();
  return name.normalize('NFKC').toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');
}

function quoted(text: string): string {
  return JSON.stringify(text.length > urlBeginning ? `${text.slice(0, urlBeginning)}...` : text);
}

function judgeModels(value: JsonValue, allowed: readonly string[]): Objection | undefined {
  for (const model of isArray(value) ? value : [value]) {
    if (typeof model !== 'string' || !isModelName(model)) return objection('models', 'a model that is no name');
    if (!allowed.some((pattern) => matchesModel(model, pattern))) return objection('models', `the model ${quoted(model)}`);
  }
  return undefined;
}

/** A URL, several, or an object that holds one under a name of its own. Only what brings its data with it passes. */
function judgeUrl(value: JsonValue): Objection | undefined {
  for (const url of isArray(value) ? value : [value]) {
    if (isObject(url)) continue;
    if (typeof url !== 'string' || !/^data:/i.test(url)) return objection('remote_urls', 'a URL that is no data: URL');
  }
  return undefined;
}

function isUrlName(folded: string): boolean {
  return folded.endsWith('url') || folded.endsWith('uri') || folded.endsWith('urls') || folded.endsWith('uris');
}

function isUrl(text: string): boolean {
  return /^[\x00-\x20]*(?!data:)[a-z][a-z0-9+.-]*:/i.test(text.slice(0, urlBeginning));
}

function isReference(item: JsonValue): boolean {
  if (!isObject(item) || !isGiven(item.get('id'))) return false;
  const content = contentOf.get(item.get('type'));
  if (content !== undefined) return !content.some((name) => hasContent(item.get(name)));
  return ![...item.keys()].some((name) => !labels.has(name) && isGiven(item.get(name)));
}

function hasContent(value: JsonValue | undefined): boolean {
  return isGiven(value) && value !== '' && !(isArray(value) && value.length === 0);
}
