import type { EndpointKind, FieldRule } from './field-rules.ts';

/**
 * What the rules say of one top-level field. A rule that is not named here lets the field pass. The walk in
 * `request-fields.ts` still judges the models, tools, addresses and ids inside it.
 */
interface FieldVerdict {
  /** Rules that refuse the field whenever it is given, and what completes "The policy does not allow ...". */
  readonly refused?: Readonly<Partial<Record<FieldRule, string>>>;
  /** Rules that look at its value, and what they want of it. */
  readonly judged?: Readonly<Partial<Record<FieldRule, string>>>;
  /** Why it may pass where no rule is named. */
  readonly passes?: string;
  /** Why it is refused until the policy names it in `fields`. */
  readonly granted?: string;
}

export type FieldTable = Readonly<Record<string, FieldVerdict>>;

function passing(why: string, ...names: string[]): FieldTable {
  return Object.fromEntries(names.map((name) => [name, { passes: why }]));
}

const toolTypes = 'only granted types, a namespace and the tools in it both';
const contents = {
  models: 'only granted models',
  tools: toolTypes,
  remote_urls: 'only data: URLs, and citations where the API has them',
  stored_state: 'no ids of stored files, containers, skills or items',
};
const chosenTools = { tools: toolTypes, remote_urls: 'no mcp, no unknown types', stored_state: 'no file_search, no unknown types' };

/** A stored prompt is out of sight here, and what it says is part of the request. */
const prompt: FieldVerdict = {
  refused: {
    models: 'a stored prompt, which can bring tools with models of their own',
    tools: 'a stored prompt, which can bring tools of its own',
    remote_urls: 'a stored prompt, which can bring tools of its own',
    stored_state: 'prompt',
  },
};

const inBoth: FieldTable = {
  model: {
    judged: {
      models: 'must be a granted one',
      tools: 'a model that searches by itself counts as web_search',
      remote_urls: 'no model that searches by itself, unless tools names web_search',
    },
  },
  tools: { judged: { ...contents, models: 'only granted models; image_generation must name one, unless tools names it' } },
  tool_choice: { judged: chosenTools },
  store: { judged: { stored_state: 'must be false: both endpoints store by default' } },
  stream: { judged: { stream_only: 'must be true' } },
  moderation: { judged: { models: 'its model must be a granted one' } },
  prompt_cache_options: { judged: { stored_state: 'no ttl beyond the default of 30m, no comparison_response_id' } },
  prompt_cache_retention: { judged: { stored_state: 'only in_memory' } },
  ...passing('names a part of the cache that OpenAI keeps by itself', 'prompt_cache_key'),
  ...passing('how the model samples its tokens', 'temperature', 'top_p', 'top_logprobs'),
  ...passing('labels for the account’s own records and abuse detection', 'metadata', 'safety_identifier', 'user'),
  service_tier: { judged: { service_tiers: 'only granted ones' } },
  ...passing('how the answer is delivered', 'stream_options', 'parallel_tool_calls'),
};

/** Every field of `POST /v1/responses`. */
const responsesFields: FieldTable = {
  ...inBoth,
  input: { judged: contents },
  instructions: { judged: contents },
  background: { judged: { background: 'must be false' } },
  background_options: { refused: { background: 'options for work in the background' } },
  max_output_tokens: { judged: { max_output_tokens: 'must be given, and within the limit' } },
  previous_response_id: { refused: { stored_state: 'previous_response_id' } },
  conversation: { refused: { stored_state: 'conversation' } },
  prompt,
  ...passing('what the answer contains, of what the request brought', 'include', 'text', 'truncation', 'context_management', 'image'),
  reasoning: { judged: { reasoning_modes: 'only granted modes' } },
  ...passing('a bound', 'max_tool_calls'),
  access_programs: { granted: 'asks for privileges that the account has, beyond those of the model' },
};

/** Every field of `POST /v1/chat/completions`. */
const chatFields: FieldTable = {
  ...inBoth,
  messages: { judged: contents },
  audio: { judged: { stored_state: 'only voices that everyone has' } },
  functions: { judged: { tools: 'counts as function' } },
  function_call: { judged: { tools: 'counts as function, unless it is none' } },
  web_search_options: { judged: { tools: 'counts as web_search', remote_urls: 'refused, unless tools names web_search' } },
  max_completion_tokens: { judged: { max_output_tokens: 'this or max_tokens must be given, and within the limit' } },
  max_tokens: { judged: { max_output_tokens: 'this or max_completion_tokens must be given, and within the limit' } },
  n: { judged: { max_output_tokens: 'multiplies the other bound' } },
  ...passing('how the model samples its tokens', 'frequency_penalty', 'presence_penalty', 'logit_bias', 'logprobs', 'seed', 'stop'),
  ...passing('what the answer contains', 'modalities', 'response_format', 'verbosity'),
  ...passing('how long the same model thinks', 'reasoning_effort'),
  ...passing('a guess at the answer, in text', 'prediction'),
};

/**
 * Fields that are not in the published API. All other ones are refused until a policy names them in `fields`: what a
 * gateway makes of a field that we have never seen is unknown, and OpenAI refuses unknown fields itself.
 */
const unpublishedFields: FieldTable = {
  // The Codex CLI sends it with each request: strings by which OpenAI tells sessions and turns apart.
  ...passing('labels for the account’s own records', 'client_metadata'),
  // Azure OpenAI "on your data": search indexes and databases, by their address.
  data_sources: {
    refused: { remote_urls: 'data_sources, which name addresses', stored_state: 'data_sources, which are stored elsewhere' },
    granted: 'lets the upstream search what others stored',
  },
  // These have their meaning at the other endpoint. Gateways that translate may know them.
  background: { judged: { background: 'must be false' }, granted: 'belongs to /responses' },
  previous_response_id: { refused: { stored_state: 'previous_response_id' }, granted: 'belongs to /responses' },
  conversation: { refused: { stored_state: 'conversation' }, granted: 'belongs to /responses' },
  prompt: { ...prompt, granted: 'belongs to /responses' },
};

const tables: Readonly<Record<EndpointKind, FieldTable>> = {
  responses: Object.freeze({ ...unpublishedFields, ...responsesFields }),
  chat: Object.freeze({ ...unpublishedFields, ...chatFields }),
  other: {},
};

/** What the rules say of the top-level fields of a request, also of some that the API does not publish. */
export function fieldTable(endpoint: EndpointKind): FieldTable {
  return tables[endpoint];
}

/** The fields of the published API that the table knows, for the test that compares them with it. */
export const publishedFields: Readonly<Record<'responses' | 'chat', readonly string[]>> = {
  responses: Object.keys(responsesFields),
  chat: Object.keys(chatFields),
};
