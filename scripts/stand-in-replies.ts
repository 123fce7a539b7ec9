import { textAnswer, toolCallAnswer } from './stand-in-answers.ts';
import type { Answer } from './stand-in-answers.ts';
import { chatTextAnswer, chatToolCallAnswer } from './stand-in-chat.ts';
import type { ChatAnswer } from './stand-in-chat.ts';
import type { JsonObject } from './stand-in-steps.ts';

/** An answer as it goes out: the whole, or the events of a stream, each as its type and its text. */
export interface Reply {
  readonly body: JsonObject;
  readonly events: ReadonlyArray<{ readonly type: string; readonly text: string }>;
}

/** How an API says things. */
export interface Dialect {
  text(request: JsonObject, text: string, reasoning: boolean): Reply;
  toolCall(request: JsonObject, name: string | undefined, args: string | undefined): Reply;
}

/** An answer of the Responses API: events with names. */
function responsesReply({ response, events }: Answer): Reply {
  return { body: response, events: events.map((event) => ({ type: event.type, text: `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n` })) };
}

/** A chat completion: chunks without names, then a word that is no JSON. */
function chatReply({ completion, chunks }: ChatAnswer): Reply {
  const said = chunks.map((chunk) => ({ type: String(chunk['object']), text: `data: ${JSON.stringify(chunk)}\n\n` }));
  return { body: completion, events: [...said, { type: '[DONE]', text: 'data: [DONE]\n\n' }] };
}

export const responsesApi: Dialect = {
  text: (...asked) => responsesReply(textAnswer(...asked)),
  toolCall: (...asked) => responsesReply(toolCallAnswer(...asked)),
};
export const chatApi: Dialect = {
  text: (...asked) => chatReply(chatTextAnswer(...asked)),
  toolCall: (...asked) => chatReply(chatToolCallAnswer(...asked)),
};
