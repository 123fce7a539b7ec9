import { isObject, itemsOf } from './stand-in-steps.ts';
import type { JsonObject } from './stand-in-steps.ts';
import { cachedTokensOf, idOf, padding, pieces, sampleOf, tokensIn, words } from './stand-in-words.ts';

/** A complete chat completion in both of its forms. */
export interface ChatAnswer {
  /** The object that a request without `stream` is answered with. */
  readonly completion: JsonObject;
  /** The chunks that a request with `stream: true` is answered with, before `[DONE]`. The last has the usage, if it was asked for. */
  readonly chunks: readonly JsonObject[];
}

const argumentCharactersPerDelta = 12;
const reasoningTokensPerAnswer = 64;

/** A message of the assistant. Chat completions do not show reasoning: with `reasoning` it is only paid for. */
export function chatTextAnswer(request: JsonObject, text: string, reasoning: boolean): ChatAnswer {
  return answer(request, {
    message: { role: 'assistant', content: text, refusal: null, annotations: [] },
    finishReason: 'stop',
    deltas: [{ role: 'assistant', content: '', refusal: null }, ...words(text).map((content) => ({ content }))],
    text,
    reasoningTokens: reasoning ? reasoningTokensPerAnswer : 0,
  });
}

/**
 * A call of the function `name`, by default the first that the request offers.
 * `args` is JSON; by default each required parameter gets a value of its type.
 */
export function chatToolCallAnswer(request: JsonObject, name: string | undefined, args: string | undefined): ChatAnswer {
  const offered = itemsOf(request['tools']).flatMap(({ function: offer }) => (isObject(offer) ? [offer] : []));
  const tool = name === undefined ? offered[0] : offered.find((candidate) => candidate['name'] === name);
  const toolName = name ?? tool?.['name'];
  if (typeof toolName !== 'string') throw new SyntaxError('the request offers no function to call');
  const text = args ?? JSON.stringify(sampleOf(tool?.['parameters']));
  const call = { id: idOf('call'), type: 'function' };
  const delta = (of: JsonObject): JsonObject => ({ tool_calls: [{ index: 0, ...of }] });
  return answer(request, {
    message: { role: 'assistant', content: null, tool_calls: [{ ...call, function: { name: toolName, arguments: text } }], refusal: null, annotations: [] },
    finishReason: 'tool_calls',
    deltas: [
      { role: 'assistant', content: null, ...delta({ ...call, function: { name: toolName, arguments: '' } }), refusal: null },
      ...pieces(text, argumentCharactersPerDelta).map((piece) => delta({ function: { arguments: piece } })),
    ],
    text,
    reasoningTokens: 0,
  });
}

/** What the assistant says, whole and in the pieces that build it up. */
interface Said {
  readonly message: JsonObject;
  readonly finishReason: string;
  readonly deltas: readonly JsonObject[];
  readonly text: string;
  readonly reasoningTokens: number;
}

function answer(request: JsonObject, said: Said): ChatAnswer {
  const common = { id: idOf('chatcmpl').replace('_', '-'), created: Math.floor(Date.now() / 1000), model: request['model'] ?? 'stand-in', service_tier: 'default', system_fingerprint: 'fp_stand_in' };
  const usage = usageOf(request, said);
  const options = request['stream_options'];
  const isUsageAsked = isObject(options) && options['include_usage'] === true;
  const chunk = (choices: readonly JsonObject[], ofUsage: JsonObject | null): JsonObject => ({
    ...common, object: 'chat.completion.chunk', choices, ...(isUsageAsked ? { usage: ofUsage } : {}), obfuscation: padding(),
  });
  const choice = (delta: JsonObject, finishReason: string | null): JsonObject => ({ index: 0, delta, logprobs: null, finish_reason: finishReason });
  return {
    completion: {
      ...common,
      object: 'chat.completion',
      choices: [{ index: 0, message: said.message, logprobs: null, finish_reason: said.finishReason }],
      usage,
    },
    chunks: [
      ...said.deltas.map((delta) => chunk([choice(delta, null)], null)),
      chunk([choice({}, said.finishReason)], null),
      ...(isUsageAsked ? [chunk([], usage)] : []),
    ],
  };
}

function usageOf(request: JsonObject, { text, reasoningTokens }: Said): JsonObject {
  const prompt = tokensIn(JSON.stringify([request['messages'], request['tools']]));
  const completion = reasoningTokens + tokensIn(text);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cachedTokensOf(prompt), audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: reasoningTokens, audio_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
  };
}
