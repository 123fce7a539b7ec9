import { describe, expect, test } from 'vitest';
import { JsonScanner, type Scalar, wantedMembers } from '../../src/extras/usage/json-scanner.ts';
import { RequestReader } from '../../src/extras/usage/request-reader.ts';
import { Random, seed } from '../support/random.ts';

const wanted = wantedMembers(['model', 'stream', 'a.b', 'a.c.d']);

/** What is found when a text comes in these pieces. */
function scan(pieces: readonly Buffer[]): { found: Record<string, Scalar>; isComplete: boolean } {
  const scanner = new JsonScanner(wanted);
  for (const piece of pieces) scanner.write(piece);
  return { found: Object.fromEntries(scanner.found), isComplete: scanner.isComplete };
}

/** The same, checked for the text cut at every byte, and into single bytes. */
function scanAllWays(text: string): ReturnType<typeof scan> {
  const bytes = Buffer.from(text);
  const whole = scan([bytes]);
  for (let at = 1; at < bytes.length; at++) expect(scan([bytes.subarray(0, at), bytes.subarray(at)]), `cut at ${at}`).toEqual(whole);
  expect(scan([...bytes].map((byte) => Buffer.from([byte])))).toEqual(whole);
  return whole;
}

describe('model and stream of a request are found', () => {
  const long = 'x"\\'.repeat(500);
  test.each<[what: string, text: string, found: Record<string, Scalar>]>([
    ['at the beginning', '{"model":"gpt-5","stream":true,"input":"hi"}', { model: 'gpt-5', stream: true }],
    ['at the end', '{"input":["hi",{"x":[1,2,{}]}],"stream":false,"model":"gpt-5"}', { model: 'gpt-5', stream: false }],
    ['with white space everywhere', ' \r\n{ "model"\t:\n"gpt-5" ,\r\n"n" : 1.5e+3 , "stream" : true } \n', { model: 'gpt-5', stream: true }],
    ['behind long strings full of quotes', `${JSON.stringify({ instructions: long, input: [long, { long }] }).slice(0, -1)},"model":"m"}`, { model: 'm' }],
    ['in an escaped name', '{"mod\\u0065l":"a","\\u0073tream":true}', { model: 'a', stream: true }],
    ['with escapes in the value', '{"model":"a\\u00e9\\n\\"\\ud83d\\ude00"}', { model: 'a\u00e9\n"\u{1f600}' }],
    ['with UTF-8 in the value', '{"model":"\u00e9\u{1f600}"}', { model: '\u00e9\u{1f600}' }],
    ['the last of several', '{"model":"a","x":1,"model":"b"}', { model: 'b' }],
    ['the last of several, also when it is of no use', '{"model":"a","model":["b"]}', {}],
    ['as null', '{"model":null,"stream":null}', { model: null, stream: null }],
    ['deeper down, where that is wanted', '{"a":{"x":{"b":0},"b":1,"c":{"d":-2.5}},"b":3}', { 'a.b': 1, 'a.c.d': -2.5 }],
    ['not from an object that was replaced', '{"a":{"b":1},"a":{"c":{"d":2}}}', { 'a.c.d': 2 }],
  ])('%s', (_, text, found) => {
    expect(JSON.parse(text)).toBeTypeOf('object');
    expect(scanAllWays(text)).toEqual({ found, isComplete: true });
  });
});

describe('nothing else is taken for them', () => {
  test.each<[what: string, text: string]>([
    ['nested objects', '{"x":{"model":"a","stream":true},"y":[{"model":"a"}]}'],
    ['strings', '{"x":"{\\"model\\":\\"a\\"}","y":["\\",\\"model\\":\\"a"],"z":"\\\\\\",\\"model\\":\\"a"}'],
    ['values', '{"x":"model","y":"a"}'],
    ['names that begin or end alike', '{"models":"a","mode":"b","xmodel":"c","model ":"d","Model":"e","model\\u0000":"f"}'],
    ['names that Object knows', '{"__proto__":{"model":"a"},"constructor":"b","toString":"c","hasOwnProperty":{"b":1}}'],
    ['a path as a name', '{"a.b":1,"a":{"c.d":2}}'],
    ['an array in the place of an object', '{"a":[{"b":1}]}'],
    ['an empty name', '{"":"a"}'],
    ['very long values and names', `{"model":"${'a'.repeat(1025)}","${'model'.repeat(100)}":"b"}`],
  ])('%s', (_, text) => {
    expect(JSON.parse(text)).toBeTypeOf('object');
    expect(scanAllWays(text)).toEqual({ found: {}, isComplete: true });
  });
});

test.each<[text: string]>([
  ['[{"model":"a"}]'], ['"model"'], ['model'], ['{"model":"a"}{"model":"b"}'], ['{"model":"a"} x'], ['{"model":"a",}'], ['{"model" "a"}'],
  ['{"model":"a" "x":1}'], ['{model:"a"}'], ["{'model':'a'}"], ['{"model":nope}'], ['{"model":"a",,"b":1}'], ['\ufeff{"model":"a"}'],
])('%s is no JSON object, and gives nothing', (text) => {
  expect(scanAllWays(text)).toEqual({ found: {}, isComplete: false });
});

test('a text that ends early gives what was there, and is not complete', () => {
  expect(scanAllWays('{"model":"a","stream":tr')).toEqual({ found: { model: 'a' }, isComplete: false });
  expect(scanAllWays('{"model":"a","a":{"b":12')).toEqual({ found: { model: 'a' }, isComplete: false });
  expect(scanAllWays('')).toEqual({ found: {}, isComplete: false });
});

test(`random JSON, randomly cut, gives what JSON.parse finds (seed ${seed})`, () => {
  const random = new Random(seed);
  for (let round = 0; round < 3000; round++) {
    const text = JSON.stringify(anObject(random, 3), undefined, random.pick([0, 0, 1, '\t']));
    const parsed = JSON.parse(text) as { model?: unknown; stream?: unknown; a?: { b?: unknown; c?: { d?: unknown } } };
    const expected = Object.entries({ model: parsed.model, stream: parsed.stream, 'a.b': parsed.a?.b, 'a.c.d': parsed.a?.c?.d })
      .filter(([, value]) => value !== undefined && (value === null || typeof value !== 'object'));
    expect(scan(random.split(Buffer.from(text), 12)), text).toEqual({ found: Object.fromEntries(expected), isComplete: true });
  }
});

const fragments = ['model', 'stream', 'a', 'b', 'c', 'd', '"', '\\', '{', '}', '[', ']', ':', ',', '\n', '\u00e9', '\u{1f600}', '\\"', 'x'.repeat(40)];

function aText(random: Random): string {
  return Array.from({ length: random.whole(0, random.pick([1, 4, 30])) }, () => random.pick(fragments)).join('');
}

function aValue(random: Random, depth: number): unknown {
  switch (random.whole(0, depth > 0 ? 6 : 4)) {
    case 0: return random.whole(-1e6, 1e6) / 8;
    case 1: return random.chance(0.5);
    case 2: return null;
    case 3: case 4: return aText(random);
    case 5: return Array.from({ length: random.whole(0, 4) }, () => aValue(random, depth - 1));
    default: return anObject(random, depth - 1);
  }
}

function anObject(random: Random, depth: number): object {
  return Object.fromEntries(Array.from({ length: random.whole(0, 8) }, () =>
    [random.chance(0.5) ? random.pick(['model', 'stream', 'a', 'b', 'c', 'd']) : aText(random), aValue(random, depth)]));
}

test('what is kept does not grow with the text', () => {
  const reader = new RequestReader();
  reader.write(Buffer.from('{"model":"gpt-5","input":["'));
  const piece = Buffer.from('aGVsbG8gd29ybGQ\\"'.repeat(4096));
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 2000; i++) reader.write(piece);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(32 * 1024 * 1024);
  reader.write(Buffer.from('"]}'));
  expect(reader.asked).toEqual({ model: 'gpt-5', stream: false });
});

test('a missing stream is false once the body is complete, and unknown before', () => {
  const reader = new RequestReader();
  reader.write(Buffer.from('{"model":"gpt-5"'));
  expect(reader.asked).toEqual({ model: 'gpt-5', stream: undefined });
  reader.write(Buffer.from('}'));
  expect(reader.asked).toEqual({ model: 'gpt-5', stream: false });
});

test('a model that is no string, or a stream that is no boolean, is unknown', () => {
  const reader = new RequestReader();
  reader.write(Buffer.from('{"model":5,"stream":"true"}'));
  expect(reader.asked).toEqual({ model: undefined, stream: undefined });
});
