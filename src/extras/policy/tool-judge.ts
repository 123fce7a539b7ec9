import { type FieldRule, type FieldRules, type Objection, isGiven, objection, within } from './field-rules.ts';
import { type JsonObject, type JsonValue, isArray, isObject, pointerStep } from './json-value.ts';
import { knownToolTypes } from './tool-types.ts';

/** The search tools that can do with what OpenAI has found before. The older ones do not ask. */
const searchesOffline: ReadonlySet<JsonValue | undefined> = new Set(['web_search', 'web_search_2025_08_26']);

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
  judgeTools(tools: JsonValue): Objection | undefined {
    const rule = this.typeRule;
    if (!isArray(tools)) return rule && objection(rule, 'tools that are no list');
    for (const [index, tool] of tools.entries()) {
      const found = isObject(tool) ? (this.#judgeTool(tool) ?? this.#judgeReach(tool)) : rule && objection(rule, 'a tool that is no object');
      if (found !== undefined) return within(index, found);
    }
    return undefined;
  }

  /** Judges what an MCP server once said of its tools. They have no types: with one, they would be tools of ours. */
  judgeMcpToolList(tools: JsonValue): Objection | undefined {
    const rule = this.typeRule;
    if (rule === undefined) return undefined;
    const isList = isArray(tools) && tools.every((tool) => isObject(tool) && !isGiven(tool.get('type')));
    return this.#judgeToolType('mcp') ?? (isList ? undefined : objection(rule, 'a tool with a type in a list of an MCP server'));
  }

  /** An approval makes OpenAI call an MCP server, if it has the request for it. */
  judgeItemType(type: JsonValue | undefined): Objection | undefined {
    return type === 'mcp_approval_response' ? this.#judgeToolType('mcp') : undefined;
  }

  /** Judges what a request says of tools beside the lists of them. */
  judgeToolChoice(body: JsonObject): Objection | undefined {
    const rule = this.typeRule;
    if (rule === undefined) return undefined;
    const [choice, functions, call, search] = ['tool_choice', 'functions', 'function_call', 'web_search_options'].map((name) => body.get(name));
    if (isObject(choice)) {
      const found = choice.get('type') === 'allowed_tools' ? undefined : this.#judgeTool(choice);
      if (found !== undefined) return within('tool_choice', found);
    } else if (isGiven(choice) && choice !== 'none' && choice !== 'auto' && choice !== 'required') {
      return objection(rule, 'an unknown tool_choice', '/tool_choice');
    }
    // Chat's older names for tools of the type `function`, and its own way to ask for a search.
    const asked = [isGiven(functions) && 'functions', isGiven(call) && call !== 'none' && 'function_call'].find((field) => field !== false);
    const found = asked === undefined ? undefined : this.#judgeToolType('function');
    if (found !== undefined) return { ...found, place: pointerStep(asked ?? '') };
    return isGiven(search) ? this.#judgeWebSearch('/web_search_options') : undefined;
  }

  judgeSearchModel(body: JsonObject): Objection | undefined {
    return this.typeRule !== undefined && searchModel.test(String(body.get('model'))) ? this.#judgeWebSearch('/model') : undefined;
  }

  /** A search that is asked for without a tool in a list. */
  #judgeWebSearch(place: string): Objection | undefined {
    const found = this.#judgeToolType('web_search') ?? this.#judgeReach(new Map([['type', 'web_search']]));
    return found && { ...found, place };
  }

  #judgeTool(tool: JsonObject): Objection | undefined {
    const found = this.#judgeToolType(tool.get('type'));
    return found && within('type', found);
  }

  #judgeToolType(type: JsonValue | undefined): Objection | undefined {
    const { tools, remoteUrls, storedState } = this.#rules;
    if (this.typeRule === undefined) return undefined;
    if (typeof type !== 'string') return objection(this.typeRule, 'a tool without a type');
    if (tools !== undefined && !tools.has(type)) return objection('tools', `the tool type ${quoted(type)}`);
    if (!remoteUrls && type === 'mcp') return objection('remote_urls', 'an MCP server');
    if (!storedState && type === 'file_search') return objection('stored_state', 'file_search');
    // A new type that is named in `tools` is known to the author of the policy.
    if (tools === undefined && !knownToolTypes.has(type)) return objection(this.typeRule, `the unknown tool type ${quoted(type)}`);
    return undefined;
  }

  /** What a tool of an allowed type may still reach. A type that is named in `tools` is meant to do what it does. */
  #judgeReach(tool: JsonObject): Objection | undefined {
    const { models, tools, remoteUrls } = this.#rules;
    const type = tool.get('type');
    if (models !== undefined && tools === undefined && type === 'image_generation' && !isGiven(tool.get('model'))) {
      return objection('models', 'image_generation by a model that the request does not name', '/model');
    }
    if (remoteUrls) return undefined;
    // A search that may open pages calls any address that the model is told.
    const isOffline = searchesOffline.has(type) && tool.get('external_web_access') === false;
    if (tools === undefined && String(type).startsWith('web_search') && !isOffline) {
      return objection('remote_urls', 'a web search with live access', '/type');
    }
    // Its network policy was set when it was made.
    const environment = tool.get('environment');
    if (typeof tool.get('container') === 'string') return objection('remote_urls', 'a container whose network is unknown', '/container');
    if (isObject(environment) && isGiven(environment.get('container_id'))) {
      return objection('remote_urls', 'a container whose network is unknown', '/environment/container_id');
    }
    return undefined;
  }
}

/** Text of a client's for a message: in quotes, escaped, cut to a length. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > maxQuotedLength ? `${text.slice(0, maxQuotedLength)}...` : text);
}
