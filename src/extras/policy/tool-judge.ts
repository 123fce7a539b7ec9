import { type FieldRule, type FieldRules, isGiven } from './field-rules.ts';
import type { Findings } from './findings.ts';
import { type JsonObject, type JsonValue, isArray, isObject } from './json-value.ts';
import { cachedSearch, knownToolTypes } from './tool-types.ts';

/** The search tools that can do with what OpenAI has found before. The older ones do not ask. */
const searchesOffline: ReadonlySet<JsonValue | undefined> = new Set(['web_search', 'web_search_2025_08_26']);

/** What such a tool may say where only a cached search is granted. Codex knows an `indexed_web_access` beside it. */
const cachedSearchMembers: ReadonlySet<string> = new Set(['type', 'external_web_access', 'filters', 'search_context_size', 'search_content_types', 'user_location']);

/** Chat models that search the web before each answer, whether a request asks for it or not. */
const searchModel = /-search(-|$)/i;

const maxQuotedLength = 64;

/** Judges what a request says of tools, by several rules at once. */
export class ToolJudge {
  readonly #rules: FieldRules;
  /** The rule that answers for tools and for the types of things; undefined where no rule asks. */
  readonly typeRule: FieldRule | undefined;

  constructor(rules: FieldRules) {
    this.#rules = rules;
    this.typeRule = rules.tools !== undefined ? 'tools' : !rules.remoteUrls ? 'remote_urls' : !rules.storedState ? 'stored_state' : undefined;
  }

  /** Judges `tools`, wherever they stand. */
  judgeTools(tools: JsonValue, findings: Findings): void {
    const rule = this.typeRule;
    if (rule !== undefined && !isArray(tools)) findings.add(rule, 'tools that are no list');
    for (const [index, tool] of isArray(tools) ? tools.entries() : []) {
      findings.within(index, () => {
        if (isObject(tool)) this.#judgeTool(tool, findings);
        else if (rule !== undefined) findings.add(rule, 'a tool that is no object');
      });
    }
  }

  /** Judges what an MCP server once said of its tools. They have no types: with one, they would be tools of ours. */
  judgeMcpToolList(tools: JsonValue, findings: Findings): void {
    this.#judgeToolType('mcp', findings);
    const isList = isArray(tools) && tools.every((tool) => isObject(tool) && !isGiven(tool.get('type')));
    if (this.typeRule !== undefined && !isList) findings.add(this.typeRule, 'a tool with a type in a list of an MCP server');
  }

  /** An approval makes OpenAI call an MCP server, if it has the request for it. */
  judgeItemType(type: JsonValue | undefined, findings: Findings): void {
    if (type === 'mcp_approval_response') this.#judgeToolType('mcp', findings, 'type');
  }

  /** Judges what a request says of tools beside the lists of them. */
  judgeToolChoice(body: JsonObject, findings: Findings): void {
    const rule = this.typeRule;
    if (rule === undefined) return;
    const choice = body.get('tool_choice');
    if (isObject(choice)) {
      if (choice.get('type') !== 'allowed_tools') this.#judgeToolType(choice.get('type'), findings, 'tool_choice', 'type');
    } else if (isGiven(choice) && choice !== 'none' && choice !== 'auto' && choice !== 'required') {
      findings.add(rule, 'an unknown tool_choice', 'tool_choice');
    }
    // Chat's older names for tools of the type `function`, and its own way to ask for a search.
    if (isGiven(body.get('functions'))) this.#judgeToolType('function', findings, 'functions');
    if (isGiven(body.get('function_call')) && body.get('function_call') !== 'none') this.#judgeToolType('function', findings, 'function_call');
    if (isGiven(body.get('web_search_options'))) this.#judgeWebSearch(findings, 'web_search_options');
  }

  judgeSearchModel(body: JsonObject, findings: Findings): void {
    if (this.typeRule !== undefined && searchModel.test(String(body.get('model')))) this.#judgeWebSearch(findings, 'model');
  }

  /** A search that is asked for without a tool in a list: a live one. */
  #judgeWebSearch(findings: Findings, step: string): void {
    this.#judgeToolType('web_search', findings, step);
    this.#judgeLiveSearch('web_search', findings, step);
  }

  #judgeToolType(type: JsonValue | undefined, findings: Findings, ...steps: string[]): void {
    const { tools, remoteUrls, storedState } = this.#rules;
    if (this.typeRule === undefined) return;
    if (typeof type !== 'string') return findings.add(this.typeRule, 'a tool without a type', ...steps);
    if (tools !== undefined && !tools.has(type)) {
      const isSearch = tools.has(cachedSearch) && searchesOffline.has(type);
      findings.add('tools', isSearch ? `a ${type} that is not only cached ("external_web_access": false)` : `the tool type ${quoted(type)}`, ...steps);
    }
    if (!remoteUrls && type === 'mcp') findings.add('remote_urls', 'an MCP server', ...steps);
    if (!storedState && type === 'file_search') findings.add('stored_state', 'file_search', ...steps);
    // A new type that is named in `tools` is known to the author of the policy.
    if (tools === undefined && !knownToolTypes.has(type)) findings.add(this.typeRule, `the unknown tool type ${quoted(type)}`, ...steps);
  }

  /** A search that may open pages calls any address that the model is told. A type that is named in `tools` is meant to do what it does. */
  #judgeLiveSearch(type: string, findings: Findings, step: string): void {
    const { tools, remoteUrls } = this.#rules;
    if (!remoteUrls && tools?.has(type) !== true) findings.add('remote_urls', 'a web search with live access', step);
  }

  /** The type of a tool, and what one of an allowed type may still reach. */
  #judgeTool(tool: JsonObject, findings: Findings): void {
    const { models, tools, remoteUrls } = this.#rules;
    const type = tool.get('type');
    const isOffline = searchesOffline.has(type) && tool.get('external_web_access') === false;
    const isCachedAlone = isOffline && [...tool.keys()].every((name) => cachedSearchMembers.has(name));
    if (!isCachedAlone || tools?.has(cachedSearch) !== true) this.#judgeToolType(type, findings, 'type');
    if (models !== undefined && tools?.has('image_generation') !== true && type === 'image_generation') {
      const svg = tool.get('svg');
      if (!isGiven(tool.get('model'))) findings.add('models', 'image_generation by a model that the request does not name', 'model');
      if (tool.get('output_format') === 'svg' && !(isObject(svg) && isGiven(svg.get('model')))) findings.add('models', 'an SVG by a model that the request does not name', 'svg', 'model');
    }
    if (typeof type === 'string' && type.startsWith('web_search') && !isOffline) this.#judgeLiveSearch(type, findings, 'type');
    if (remoteUrls) return;
    // Its network policy was set when it was made.
    const [container, environment] = [tool.get('container'), tool.get('environment')];
    if (typeof container === 'string') findings.add('remote_urls', 'a container whose network is unknown', 'container');
    if (isObject(environment) && isGiven(environment.get('container_id'))) {
      findings.add('remote_urls', 'a container whose network is unknown', 'environment', 'container_id');
    }
  }
}

/** Text of a client's for a message: in quotes, escaped, cut to a length. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > maxQuotedLength ? `${text.slice(0, maxQuotedLength)}...` : text);
}
