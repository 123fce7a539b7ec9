import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { publishedFields } from '../../src/extras/policy/api-fields.ts';
import { knownItemTypes } from '../../src/extras/policy/item-types.ts';
import { knownToolTypes } from '../../src/extras/policy/tool-types.ts';
import { checkout } from '../support/daemon-paths.ts';
import { runTool } from '../support/native-tools.ts';
import { npm, registryProblem } from '../support/npm.ts';
import { scratchFolder } from '../support/scratch.ts';

const responses = 'responses/responses.js';
const chat = 'chat/completions/completions.js';

/** What the types of the package say, in TypeScript, and what we know of it. */
const questions = [
  { what: 'fields of POST /v1/responses', type: 'keyof Responses.ResponseCreateParamsBase', known: publishedFields.responses },
  { what: 'fields of POST /v1/chat/completions', type: 'keyof Chat.ChatCompletionCreateParamsBase', known: publishedFields.chat },
  { what: 'tool types', type: "Responses.Tool['type'] | Responses.ToolChoiceTypes['type'] | Responses.NamespaceTool['tools'][number]['type'] | Chat.ChatCompletionTool['type']", known: [...knownToolTypes] },
  { what: 'types of input items', type: "NonNullable<Extract<Responses.ResponseInputItem, { type?: unknown }>['type']>", known: [...knownItemTypes] },
] as const;

let folder: string;

/** For the registry, and for a busy machine. */
const downloadMs = 120_000;

/** The newest version that there is, whatever Node it is for: an older one would hide what is new. */
beforeAll(async () => {
  folder = scratchFolder();
  const packed = await npm(['pack', '--silent', 'openai@latest'], { cwd: folder });
  expect(registryProblem(packed)).toBeUndefined();
  expect(packed.code, packed.stderr).toBe(0);
  const archive = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '';
  expect((await runTool('tar', ['-xzf', join(folder, archive), '-C', folder])).code).toBe(0);
}, downloadMs);

/** What the compiler answers: the names of a union that our list does not have, or the other way round. */
async function difference(type: string, known: readonly string[], side: 'new' | 'gone'): Promise<string[]> {
  const list = known.map((name) => JSON.stringify(name)).join(' | ');
  const excluded = side === 'new' ? `Exclude<${type}, Known>` : `Exclude<Known, ${type}>`;
  const file = join(folder, `question-${side}.ts`);
  writeFileSync(file, [
    `import type * as Responses from './package/resources/${responses}';`,
    `import type * as Chat from './package/resources/${chat}';`,
    `type Known = ${list};`,
    `type Published = ${type};`,
    // If the package has moved its types, this line fails, and not by saying nothing.
    `export const isThere: 'x' extends Published ? never : [Published] extends [never] ? never : true = true;`,
    `export const answer: { [Name in ${excluded}]: \`answer: \${Name}\` }[${excluded}] | 'no answer' = 'none';`,
    'export type Used = Responses.ResponseCreateParamsBase | Chat.ChatCompletionCreateParamsBase;',
  ].join('\n'));
  const compilerOptions = { strict: true, noEmit: true, skipLibCheck: true, noErrorTruncation: true, target: 'es2023', module: 'nodenext', types: [] };
  const config = join(folder, `question-${side}.json`);
  writeFileSync(config, JSON.stringify({ compilerOptions, files: [file] }));
  const { stdout } = await runTool(process.execPath, [join(checkout, 'node_modules/typescript/bin/tsc'), '--pretty', 'false', '-p', config]);
  const errors = stdout.split('\n').filter((line) => line.includes('error TS') && line.includes(`question-${side}.ts`));
  // One mistake, and it is the one that gives the answer.
  expect(errors, stdout).toEqual([expect.stringContaining("Type '\"none\"' is not assignable to type")]);
  return [...(errors[0] ?? '').matchAll(/"answer: ([^"]+)"/g)].map(([, name]) => name ?? '').sort();
}

describe.each(questions)('the newest openai package has no $what', ({ type, known }) => {
  test('that the policy has not judged', async () => {
    expect(await difference(type, known, 'new')).toEqual([]);
  });

  test('fewer than the policy takes for published', async () => {
    expect(await difference(type, known, 'gone')).toEqual([]);
  });
});

test('a field that is missing in our list would be found', async () => {
  const [{ type, known }] = questions;
  expect(await difference(type, known.filter((name) => name !== 'background' && name !== 'image'), 'new')).toEqual(['background', 'image']);
  expect(await difference(type, [...known, 'a_field'], 'gone')).toEqual(['a_field']);
});
