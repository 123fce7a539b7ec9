import { describe, expect, test } from 'vitest';
import { chatApi, responsesApi, type Reply } from '../../scripts/stand-in-replies.ts';
import type { JsonObject } from '../../scripts/stand-in-steps.ts';
import { maxCollectedBytes } from '../../src/extras/usage/collected.ts';
import { AnswerReader, type Answered, formOf } from '../../src/extras/usage/usage.ts';
import { MemoryBudget } from '../../src/extras/whole-body.ts';
import { chatCompletions, responses, type Endpoint } from '../support/endpoints.ts';
import { Random, seed } from '../support/random.ts';

type Form = 'json' | 'events';

const mebibyte = 1024 * 1024;

function read(form: Form, pieces: Iterable<Buffer>, held = new MemoryBudget(64 * mebibyte)): Answered {
  const reader = new AnswerReader(form, held);
  for (const piece of pieces) reader.write(piece);
  const answered = reader.end();
  expect(isUnused(held), 'all memory is given back').toBe(true);
  return answered;
}

function isUnused(held: MemoryBudget): boolean {
  const [hasAll, hasMore] = [held.take(64 * mebibyte), held.take(1)];
  held.giveBack(64 * mebibyte + 1);
  return hasAll && !hasMore;
}

/** What is read, checked for the answer cut at a thousand places, and into single bytes. */
function readAllWays(form: Form, text: string): Answered {
  const bytes = Buffer.from(text);
  const whole = read(form, [bytes]);
  const step = Math.max(1, Math.floor(bytes.length / 1_000));
  for (let at = 1; at < bytes.length; at += step) {
    const answered = read(form, [bytes.subarray(0, at), bytes.subarray(at)]);
    if (JSON.stringify(answered) !== JSON.stringify(whole)) expect(answered, `cut at ${at}`).toEqual(whole);
  }
  expect(read(form, [...bytes].map((byte) => Buffer.from([byte])))).toEqual(whole);
  return whole;
}

const request = {
  ...{ model: 'gpt-5', instructions: 'Be "brief".\r\n'.repeat(5), tools: [{ type: 'function', name: 'f', parameters: null }] },
  ...{ input: 'Say hello', messages: [{ role: 'user', content: 'Say hello' }], stream_options: { include_usage: true } },
};
const lookalike = '"usage":{"input_tokens":666},"response":{"usage":{"input_tokens":666}},\n\nevent: response.completed\ndata: {}';

function usageIn({ usage }: JsonObject, { input, output }: Endpoint['usage']): object {
  const counts = usage as Record<string, number> & Record<string, Record<string, number>>;
  return {
    input: counts[input],
    cached: counts[`${input}_details`]?.['cached_tokens'],
    output: counts[output],
    reasoning: counts[`${output}_details`]?.['reasoning_tokens'],
    total: counts['total_tokens'],
  };
}

function stream(events: Reply['events'], lineEnd = '\n'): string {
  return events.map(({ text }) => text.replaceAll('\n', lineEnd)).join('');
}

// How many events there are from the one with the usage on: chat completions end with `[DONE]`.
describe.for([{ endpoint: responses, api: responsesApi, last: 1 }, { endpoint: chatCompletions, api: chatApi, last: 2 }])('answers of the stand-in, at $endpoint.name:', ({ endpoint, api, last }) => {
  const answers = {
    text: api.text(request, 'Hello, world. '.repeat(3), false),
    reasoning: api.text(request, `It says ${lookalike}`, true),
    'tool call': api.toolCall(request, 'f', JSON.stringify({ cmd: lookalike })),
  };
  for (const [name, { body, events }] of Object.entries(answers)) {
    const expected = { model: 'gpt-5', usage: usageIn(body, endpoint.usage) };
    test(`${name}, as JSON`, () => {
      expect(readAllWays('json', JSON.stringify(body))).toEqual(expected);
      expect(readAllWays('json', JSON.stringify(body, null, 2))).toEqual(expected);
    });
    test.each([['LF', '\n'], ['CRLF', '\r\n']])(`${name}, as events, with %s`, (_, lineEnd) => {
      expect(readAllWays('events', stream(events, lineEnd))).toEqual(expected);
    });
    test(`${name}, as events without names`, () => {
      expect(readAllWays('events', stream(events).replace(/^event: .*\n/gm, ''))).toEqual(expected);
    });
    test(`${name}, in pieces of any size (seed ${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 200; round++) expect(read('events', random.split(Buffer.from(stream(events)), 30))).toEqual(expected);
    });
    test(`${name}, cut before the usage: none`, () => {
      expect(readAllWays('events', stream(events.slice(0, -last))).usage).toBe(undefined);
      const whole = stream(events.slice(0, events.length - last + 1));
      expect(readAllWays('events', whole.slice(0, whole.lastIndexOf('}'))).usage).toBe(undefined);
    });
  }
});

test.each(['response.incomplete', 'response.failed'])('an answer that ends with %s', (type) => {
  const { body, events } = responsesApi.text(request, 'Hello', false);
  const last = { type, text: `event: ${type}\ndata: ${JSON.stringify({ type, response: body })}\n\n` };
  expect(readAllWays('events', stream([...events.slice(0, -1), last]))).toEqual({ model: 'gpt-5', usage: usageIn(body, responses.usage) });
});

describe('chat completions', () => {
  const usage = {
    prompt_tokens: 19, completion_tokens: 10, total_tokens: 29,
    prompt_tokens_details: { cached_tokens: 7, audio_tokens: 0 }, completion_tokens_details: { reasoning_tokens: 3, audio_tokens: 0 },
  };
  const expected = { model: 'gpt-4o-2024-08-06', usage: { input: 19, cached: 7, output: 10, reasoning: 3, total: 29 } };
  const base = { id: 'chatcmpl-1', model: expected.model };

  test('as JSON', () => {
    const answer = { ...base, object: 'chat.completion', choices: [{ index: 0, message: { role: 'assistant', content: lookalike } }], usage };
    expect(readAllWays('json', JSON.stringify(answer, null, 2))).toEqual(expected);
  });

  test('as events: the usage is in the last one before [DONE]', () => {
    const pieces = ['Hel', 'lo', lookalike].map((content) => ({ ...base, object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content } }], usage: null }));
    const text = [...pieces, { ...base, choices: [], usage }].map((piece) => `data: ${JSON.stringify(piece)}\n\n`).join('');
    expect(readAllWays('events', `${text}data: [DONE]\n\n`)).toEqual(expected);
    expect(readAllWays('events', `: a comment\n\n${text}data: [DONE]`.replaceAll('\n', '\r\n'))).toEqual(expected);
  });

  test('as events without usage', () => {
    expect(readAllWays('events', `data: ${JSON.stringify({ ...base, choices: [] })}\n\ndata: [DONE]\n\n`)).toEqual({ model: expected.model, usage: undefined });
  });

  test('embeddings', () => {
    expect(readAllWays('json', JSON.stringify({ object: 'list', data: [{ embedding: [0.1, -0.2] }], model: 'e', usage: { prompt_tokens: 8, total_tokens: 8 } })))
      .toEqual({ model: 'e', usage: { input: 8, cached: undefined, output: undefined, reasoning: undefined, total: 8 } });
  });
});

describe('events in other forms', () => {
  const completed = { type: 'response.completed', response: { model: 'm', usage: { input_tokens: 1, output_tokens: 2, total_tokens: 3 } } };
  const expected = { model: 'm', usage: { input: 1, cached: undefined, output: 2, reasoning: undefined, total: 3 } };

  test('data in several lines', () => {
    const data = JSON.stringify(completed, null, 2).replaceAll('\n', '\ndata:');
    expect(readAllWays('events', `event: response.completed\nid: 7\nretry: 10\ndata:${data}\n\n`)).toEqual(expected);
  });

  test('the name after the data, no space, comments, empty lines, no empty line at the end', () => {
    expect(readAllWays('events', `\n\n: hi\ndata:${JSON.stringify(completed)}\nevent:response.completed\n: bye\n`)).toEqual(expected);
    expect(readAllWays('events', `data:${JSON.stringify(completed)}`)).toEqual(expected);
  });

  test('fields that are named almost alike', () => {
    expect(readAllWays('events', ['dat', 'data2', 'Data', ' data', 'event'].map((name) => `${name}: ${JSON.stringify(completed)}\n\n`).join(''))).toEqual({
      model: undefined, usage: undefined,
    });
  });

  test('lines that end with a carriage return alone are not read', () => {
    expect(readAllWays('events', `event: response.completed\rdata: ${JSON.stringify(completed)}\r\r`)).toEqual({ model: undefined, usage: undefined });
  });

  test('a name given twice: what the event says is unknown', () => {
    expect(readAllWays('events', `data: ${JSON.stringify(completed).replace('"usage"', '"usage":{"total_tokens":0},"usage"')}\n\n`)).toEqual({ model: undefined, usage: undefined });
  });
});

/** The same many times, and then something else. */
function* many(piece: Buffer, bytes: number, beginning: string, end: string): Generator<Buffer> {
  yield Buffer.from(beginning);
  for (let sent = 0; sent < bytes; sent += piece.length) yield piece;
  yield Buffer.from(end);
}

describe('what is too large to be collected', () => {
  const usage = (total: number): string => JSON.stringify({ usage: { total_tokens: total } }).slice(1);
  const text = Buffer.from('Hello \\"world\\". '.repeat(4096));
  const event = (bytes: number, name = 'response.completed'): Iterable<Buffer> => many(text, bytes, `event: ${name}\ndata: {"x":"`, `",${usage(3)}\n\n`);
  const json = (bytes: number): Iterable<Buffer> => many(text, bytes, '{"x":"', `",${usage(3)}`);

  test('leaves the usage unknown, so that it is estimated', () => {
    for (const [form, pieces] of [['events', event], ['json', json]] as const) {
      expect(read(form, pieces(maxCollectedBytes - mebibyte)).usage?.total).toBe(3);
      expect(read(form, pieces(maxCollectedBytes)).usage).toBe(undefined);
      expect(read(form, many(text, 2 * maxCollectedBytes, '{"x":"', '')).usage).toBe(undefined);
    }
  });

  test('also where an earlier event said something; a later one counts', () => {
    const earlier = Buffer.from(`data: {${usage(1)}\n\n`);
    const later = Buffer.from(`data: {${usage(7)}\n\n`);
    expect(read('events', [earlier, ...event(maxCollectedBytes)]).usage).toBe(undefined);
    expect(read('events', [...event(maxCollectedBytes, 'response.output_item.done'), later]).usage?.total).toBe(7);
  });

  test('counts against the budget of memory, which others may have used up', () => {
    const held = new MemoryBudget(64 * mebibyte);
    held.take(60 * mebibyte);
    const reader = new AnswerReader('json', held);
    for (const piece of json(5 * mebibyte)) reader.write(piece);
    held.giveBack(60 * mebibyte);
    expect(reader.end().usage).toBe(undefined);
    expect(isUnused(held)).toBe(true);
  });

  test('in pieces of a byte, it takes no more memory than in large ones', () => {
    const byte = Buffer.from('x');
    globalThis.gc?.();
    const before = process.memoryUsage();
    expect(read('json', many(byte, 4 * mebibyte, '{"x":"', `",${usage(3)}`)).usage?.total).toBe(3);
    const after = process.memoryUsage();
    expect(after.external + after.heapUsed - before.external - before.heapUsed).toBeLessThan(64 * mebibyte);
  });
});

describe('numbers that are none', () => {
  test.each([['"5"'], ['-1'], ['1.5'], ['1e400'], ['9007199254740993'], ['[5]'], ['{"a":5}'], ['null'], ['true']])('%s', (value) => {
    expect(read('json', [Buffer.from(`{"usage":{"input_tokens":${value},"output_tokens":2}}`)]).usage)
      .toEqual({ input: undefined, cached: undefined, output: 2, reasoning: undefined, total: undefined });
    expect(read('json', [Buffer.from(`{"usage":{"input_tokens":${value}}}`)]).usage).toBe(undefined);
  });
});

describe('which answers are read', () => {
  test.each<[Form | undefined, string[]]>([
    ['json', ['Content-Type', 'application/json']],
    ['json', ['content-type', 'application/json; charset=utf-8']],
    ['json', ['content-type', 'application/problem+json']],
    ['events', ['CONTENT-TYPE', 'Text/Event-Stream;charset=utf-8']],
    ['events', ['content-encoding', 'identity', 'content-type', 'text/event-stream']],
    [undefined, ['content-type', 'text/event-stream', 'content-encoding', 'gzip']],
    [undefined, ['Content-Encoding', 'br', 'content-type', 'application/json']],
    [undefined, ['content-type', 'text/html']],
    [undefined, ['content-type', 'application/jsonl']],
    [undefined, ['content-type', 'text/event-streams']],
    [undefined, []],
  ])('%s: %j', (form, rawHeaders) => {
    expect(formOf(rawHeaders)).toBe(form);
  });
});

test('what is no answer gives nothing', () => {
  for (const text of ['', '[]', '"usage"', 'upstream error', '{"usage":{"input_tokens":1}', '{"error":{"message":"no","usage":{"input_tokens":1}}}']) {
    expect(read('json', [Buffer.from(text)]), text).toEqual({ model: undefined, usage: undefined });
    expect(read('events', [Buffer.from(text)]), text).toEqual({ model: undefined, usage: undefined });
  }
});
