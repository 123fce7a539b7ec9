import type { IncomingHttpHeaders } from 'node:http';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json | undefined;
}

/** What the stand-in does with one request. */
export type Step =
  | { readonly kind: 'text'; readonly text: string; readonly reasoning: boolean }
  | { readonly kind: 'tool'; readonly name: string | undefined; readonly arguments: string | undefined }
  | { readonly kind: 'cut' }
  | { readonly kind: 'error'; readonly status: 401 | 429 | 500; readonly retryAfterSeconds: number };

const defaultText = 'Hello from the stand-in upstream. I am no model, but I stream like one.';
const defaultStep: Step = { kind: 'text', text: defaultText, reasoning: false };
const defaultRetryAfterSeconds = 1;

/**
 * Chooses what happens to each request; the language of the choice is described in stand-in-upstream.ts.
 * `stepFor` throws a SyntaxError with a message for the caller when the request asks for what does not exist.
 */
export class StepChooser {
  /** How many requests each script of a conversation has answered so far. */
  readonly #taken = new Map<string, number>();

  stepFor(headers: IncomingHttpHeaders, request: JsonObject): Step {
    const script = scriptIn(headers, request);
    if (script === undefined) return defaultStep;
    const steps = script.split(/,\s*then\s+/).map(parseStep);
    const conversation = JSON.stringify([script, request['prompt_cache_key'] ?? null]);
    const taken = this.#taken.get(conversation) ?? 0;
    this.#taken.set(conversation, taken + 1);
    return steps[Math.min(taken, steps.length - 1)] ?? defaultStep;
  }
}

function scriptIn(headers: IncomingHttpHeaders, request: JsonObject): string | undefined {
  const header = headers['x-stand-in'];
  if (typeof header === 'string') return header.trim();
  const prompt = /\[stand-in: (.+)\]/s.exec(lastUserText(request))?.[1];
  if (prompt !== undefined) return prompt.trim();
  return typeof request['model'] === 'string' ? /^stand-in-(.+)$/.exec(request['model'])?.[1] : undefined;
}

function parseStep(text: string): Step {
  const [, word = '', rest = ''] = /^(\S+)\s*(.*)$/s.exec(text.trim()) ?? [];
  switch (word) {
    case 'text':
    case 'reasoning':
      return { kind: 'text', text: rest === '' ? defaultText : rest, reasoning: word === 'reasoning' };
    case 'tool': {
      const [, name, args] = /^(\S+)\s*(.*)$/s.exec(rest) ?? [];
      return { kind: 'tool', name, arguments: args === '' ? undefined : args };
    }
    case 'cut':
      return { kind: 'cut' };
    case '401':
    case '429':
    case '500': {
      const retryAfterSeconds = rest === '' ? defaultRetryAfterSeconds : Number(rest);
      return { kind: 'error', status: word === '401' ? 401 : word === '429' ? 429 : 500, retryAfterSeconds };
    }
    default:
      throw new SyntaxError(`the stand-in knows text, reasoning, tool, cut, 401, 429 and 500, but not '${word}'`);
  }
}

/** The text of the last message of role user, or '' where there is none. */
export function lastUserText(request: JsonObject): string {
  const input = said(request);
  if (typeof input === 'string') return input;
  const last = itemsOf(input).findLast((item) => item['role'] === 'user');
  return last === undefined ? '' : textOf(last['content']);
}

/** What the tools answered since the user last spoke, or undefined while there is no answer. */
export function toolOutput(request: JsonObject): string | undefined {
  const items = itemsOf(said(request));
  const turn = items.slice(items.findLastIndex((item) => item['role'] === 'user') + 1);
  const outputs = turn.flatMap((item) => {
    if (item['role'] === 'tool') return [textOf(item['content'])];
    return item['type'] === 'function_call_output' ? [textOf(item['output'])] : [];
  });
  return outputs.length === 0 ? undefined : outputs.join('\n');
}

/** The conversation so far: of a request to /responses, or to /chat/completions. */
function said(request: JsonObject): Json | undefined {
  return request['input'] ?? request['messages'];
}

/** Whether a value is a JSON object, so neither null nor an array. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The objects of a JSON array; none where it is no array. */
export function itemsOf(value: Json | undefined): JsonObject[] {
  return Array.isArray(value) ? value.filter((item: Json) => isObject(item)) : [];
}

function textOf(content: Json | undefined): string {
  if (typeof content === 'string') return content;
  return itemsOf(content).map((part) => (typeof part['text'] === 'string' ? part['text'] : '')).join('');
}
