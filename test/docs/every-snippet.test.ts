import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { documents, snippetIn, snippetsOf, type Snippet } from '../support/readme.ts';

/** Blocks in these languages are not commands. Tests read some of them; `docs/loan.test.ts`, `service/container.test.ts`. */
const notRun = new Set(['text', 'json', 'yaml']);

const call = /\bsnippetIn\('([^']+)', ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)/g;

/** The snippets that the tests ask for. */
function claimed(): Set<string> {
  const tests = readdirSync(join(checkout, 'test'), { recursive: true, encoding: 'utf8' }).filter((file) => /\.(test|long)\.ts$/.test(file));
  const calls = tests.flatMap((file) => [...readFileSync(join(checkout, 'test', file), 'utf8').matchAll(call)]);
  return new Set(calls.map(([, document = '', literal = '']) => placeOf(snippetIn(document, textIn(literal)))));
}

function textIn(literal: string): string {
  return literal.slice(1, -1).replace(/\\(.)/g, (_escape, character: string) => (character === 'n' ? '\n' : character));
}

function placeOf({ document, line, heading }: Snippet): string {
  return `${document}, line ${line}, under "${heading}"`;
}

test('every command in a README is run by a test', () => {
  const run = claimed();
  expect(run.size).toBeGreaterThan(10);
  const commands = documents().flatMap(snippetsOf).filter(({ language }) => !notRun.has(language));
  expect(commands.map(placeOf).filter((place) => !run.has(place))).toEqual([]);
});
