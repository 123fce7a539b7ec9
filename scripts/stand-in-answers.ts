import { isObject, itemsOf } from './stand-in-steps.ts';
import type { JsonObject } from './stand-in-steps.ts';
import { cachedTokensOf, idOf, padding, pieces, sampleOf, tokensIn, words } from './stand-in-words.ts';

/** One event of a stream: `type` and `sequence_number` are always among its members. */
export type StreamEvent = JsonObject & { readonly type: string };

/** A complete answer in both of its forms. */
export interface Answer {
  /** The object that a request without `stream` is answered with. */
  readonly response: JsonObject;
  /** The events that a request with `stream: true` is answered with, in order. */
  readonly events: readonly StreamEvent[];
}

/** An item of the answer, with the events that build it up. */
interface Item {
  readonly item: JsonObject;
  readonly events: readonly StreamEvent[];
  readonly text: string;
  readonly reasoningTokens: number;
}

const argumentCharactersPerDelta = 12;
const reasoningTokensPerItem = 64;

/** A message, with a reasoning item before it if `reasoning` is true; or what was said, compacted, if the request asks for that. */
export function textAnswer(request: JsonObject, text: string, reasoning: boolean): Answer {
  if (itemsOf(request['input']).at(-1)?.['type'] === 'compaction_trigger') return answer(request, [compactionItem(text)]);
  const items = reasoning ? [reasoningItem(0), messageItem(1, text)] : [messageItem(0, text)];
  return answer(request, items);
}

/**
 * A call of the function `name`, by default the first that the request offers.
 * `args` is JSON; by default each required parameter gets a value of its type.
 */
export function toolCallAnswer(request: JsonObject, name: string | undefined, args: string | undefined): Answer {
  const offered = itemsOf(request['tools']).filter((tool) => tool['type'] === 'function');
  const tool = name === undefined ? offered[0] : offered.find((candidate) => candidate['name'] === name);
  const toolName = name ?? tool?.['name'];
  if (typeof toolName !== 'string') throw new SyntaxError('the request offers no function to call');
  return answer(request, [functionCallItem(0, toolName, args ?? JSON.stringify(sampleOf(tool?.['parameters'])))]);
}

function answer(request: JsonObject, items: readonly Item[]): Answer {
  const begun = beginning(request);
  const now = Math.floor(Date.now() / 1000);
  const response = {
    ...begun,
    status: 'completed',
    completed_at: now,
    output: items.map(({ item }) => item),
    usage: usage(request, items),
  };
  const events: StreamEvent[] = [
    { type: 'response.created', response: begun },
    { type: 'response.in_progress', response: begun },
    ...items.flatMap((item) => item.events),
    { type: 'response.completed', response },
  ];
  return { response, events: events.map(({ type, ...event }, index) => ({ type, sequence_number: index, ...event })) };
}

/** The response object as it is when nothing has been said yet: what was asked for is repeated, the rest has its defaults. */
function beginning(request: JsonObject): JsonObject {
  const reasoning = isObject(request['reasoning']) ? request['reasoning'] : {};
  return {
    id: idOf('resp'),
    object: 'response',
    created_at: Math.floor(Date.now() / 1000),
    status: 'in_progress',
    background: false,
    completed_at: null,
    error: null,
    incomplete_details: null,
    instructions: request['instructions'] ?? null,
    max_output_tokens: request['max_output_tokens'] ?? null,
    max_tool_calls: null,
    model: request['model'] ?? 'stand-in',
    output: [],
    parallel_tool_calls: request['parallel_tool_calls'] ?? true,
    previous_response_id: request['previous_response_id'] ?? null,
    prompt_cache_key: request['prompt_cache_key'] ?? null,
    reasoning: { effort: reasoning['effort'] ?? null, summary: reasoning['summary'] ?? null },
    safety_identifier: null,
    service_tier: request['service_tier'] ?? 'default',
    store: request['store'] ?? true,
    temperature: request['temperature'] ?? 1,
    text: request['text'] ?? { format: { type: 'text' }, verbosity: 'medium' },
    tool_choice: request['tool_choice'] ?? 'auto',
    tools: request['tools'] ?? [],
    top_logprobs: 0,
    top_p: request['top_p'] ?? 1,
    truncation: request['truncation'] ?? 'disabled',
    usage: null,
    user: null,
    metadata: request['metadata'] ?? {},
  };
}

function compactionItem(text: string): Item {
  const item = { id: idOf('cmp'), type: 'compaction', encrypted_content: Buffer.from(text).toString('base64') };
  return { item, text, reasoningTokens: 0, events: [{ type: 'response.output_item.done', output_index: 0, item }] };
}

function messageItem(outputIndex: number, text: string): Item {
  const itemId = idOf('msg');
  const place = { item_id: itemId, output_index: outputIndex, content_index: 0 };
  const part = { type: 'output_text', annotations: [], logprobs: [], text };
  const begun = { id: itemId, type: 'message', status: 'in_progress', content: [], role: 'assistant' };
  const item = { ...begun, status: 'completed', content: [part] };
  return {
    item,
    text,
    reasoningTokens: 0,
    events: [
      { type: 'response.output_item.added', output_index: outputIndex, item: begun },
      { type: 'response.content_part.added', ...place, part: { ...part, text: '' } },
      ...words(text).map((delta) => ({ type: 'response.output_text.delta', ...place, delta, logprobs: [], obfuscation: padding() })),
      { type: 'response.output_text.done', ...place, text, logprobs: [] },
      { type: 'response.content_part.done', ...place, part },
      { type: 'response.output_item.done', output_index: outputIndex, item },
    ],
  };
}

function reasoningItem(outputIndex: number): Item {
  const itemId = idOf('rs');
  const place = { item_id: itemId, output_index: outputIndex, summary_index: 0 };
  const text = '**Thinking it over**\n\nThe question is easy, since the answer is always the same.';
  const part = { type: 'summary_text', text };
  const begun = { id: itemId, type: 'reasoning', summary: [] };
  const item = { ...begun, summary: [part] };
  return {
    item,
    text: '', // The summary costs nothing; what it sums up does.
    reasoningTokens: reasoningTokensPerItem,
    events: [
      { type: 'response.output_item.added', output_index: outputIndex, item: begun },
      { type: 'response.reasoning_summary_part.added', ...place, part: { ...part, text: '' } },
      ...words(text).map((delta) => ({ type: 'response.reasoning_summary_text.delta', ...place, delta, obfuscation: padding() })),
      { type: 'response.reasoning_summary_text.done', ...place, text },
      { type: 'response.reasoning_summary_part.done', ...place, part },
      { type: 'response.output_item.done', output_index: outputIndex, item },
    ],
  };
}

function functionCallItem(outputIndex: number, name: string, args: string): Item {
  const itemId = idOf('fc');
  const place = { item_id: itemId, output_index: outputIndex };
  const begun = { id: itemId, type: 'function_call', status: 'in_progress', arguments: '', call_id: idOf('call'), name };
  const item = { ...begun, status: 'completed', arguments: args };
  return {
    item,
    text: args,
    reasoningTokens: 0,
    events: [
      { type: 'response.output_item.added', output_index: outputIndex, item: begun },
      ...pieces(args, argumentCharactersPerDelta).map((delta) => (
        { type: 'response.function_call_arguments.delta', ...place, delta, obfuscation: padding() })),
      { type: 'response.function_call_arguments.done', ...place, arguments: args },
      { type: 'response.output_item.done', output_index: outputIndex, item },
    ],
  };
}

function usage(request: JsonObject, items: readonly Item[]): JsonObject {
  const input = tokensIn(JSON.stringify([request['instructions'], request['input'], request['tools']]));
  const reasoning = items.reduce((sum, item) => sum + item.reasoningTokens, 0);
  const output = reasoning + items.reduce((sum, item) => sum + tokensIn(item.text), 0);
  return {
    input_tokens: input,
    input_tokens_details: { cached_tokens: cachedTokensOf(input) },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: reasoning },
    total_tokens: input + output,
  };
}
