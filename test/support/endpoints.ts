import { join } from 'node:path';
import { chatApi, responsesApi, type Dialect } from '../../scripts/stand-in-replies.ts';
import type { JsonObject } from '../../scripts/stand-in-steps.ts';
import { scratchFolder } from './scratch.ts';

/** An endpoint that a daemon can serve, with a sample of its traffic. */
export interface Endpoint {
  /** For titles. */
  readonly name: string;
  readonly path: string;
  /** The daemon's flags that select it. */
  args(): readonly string[];
  /** A request as its clients send it, by default for a stream. */
  asking(text: string, options?: { readonly stream: boolean }): JsonObject;
  /** The text of such a request. */
  readonly request: string;
  /** The response to it: a stream's events as they are on the wire. */
  readonly events: readonly string[];
  /** Its names for the usage that the audit log records. */
  readonly usage: { readonly input: string; readonly output: string };
}

const said = 'Hello, this is what a stream looks like.';

/** The default endpoint. */
export const responses = endpoint('/v1/responses', responsesApi, {
  args: () => [],
  asking: (text, { stream } = { stream: true }) => ({ model: 'gpt-5', stream, store: false, input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text }] }] }),
  usage: { input: 'input_tokens', output: 'output_tokens' },
});

/** Its events have no names; the last but one has the usage, the last is `[DONE]`, which is no JSON. */
export const chatCompletions = endpoint('/v1/chat/completions', chatApi, {
  args: () => ['--endpoint', '/v1/chat/completions'],
  asking: (text, { stream } = { stream: true }) => ({ model: 'gpt-5', stream, ...(stream ? { stream_options: { include_usage: true } } : {}), messages: [{ role: 'user', content: text }] }),
  usage: { input: 'prompt_tokens', output: 'completion_tokens' },
});

/** For `describe.for`. */
export const endpoints: readonly Endpoint[] = [responses, chatCompletions];

/** One endpoint, and another whose responses are read as they pass: the promises about forwarding hold for each. */
export const passages: readonly Endpoint[] = [
  responses,
  { ...chatCompletions, name: `${chatCompletions.path}, audited`, args: () => [...chatCompletions.args(), '--audit-log', join(scratchFolder(), 'audit.log')] },
];

function endpoint(path: string, api: Dialect, rest: Pick<Endpoint, 'args' | 'asking' | 'usage'>): Endpoint {
  const request = rest.asking('Say hello');
  return { name: path, path, ...rest, request: JSON.stringify(request), events: api.text(request, said, false).events.map(({ text }) => text) };
}
