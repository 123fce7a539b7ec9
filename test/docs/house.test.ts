import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';

/** The rooms of src, and the rooms whose files each may import. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  native: [],
  run: ['native'],
  key: ['native', 'run'],
  gate: ['native', 'run'],
  proxy: ['gate', 'key', 'native', 'run'],
  extras: ['gate', 'native', 'proxy', 'run'],
};

const maxLines = 400;
const src = join(checkout, 'src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => /\.(ts|c)$/.test(file)).sort();
const modules = files.filter((file) => file.endsWith('.ts'));

interface Import {
  readonly to: string;
  readonly isDynamic: boolean;
}

/** The modules of ours that a module imports, types too. */
function importsOf(file: string): Import[] {
  const text = readFileSync(join(src, file), 'utf8');
  return [...text.matchAll(/(?:from|import|(import\())\s*'(\.[^']+\.ts)'/g)].map(([, call, path = '']) => ({ to: normalize(join(dirname(file), path)), isDynamic: call !== undefined }));
}

function roomOf(file: string): string {
  return file.includes('/') ? (file.split('/')[0] ?? '') : '';
}

test.for(modules)('%s imports in one direction', (file) => {
  const room = roomOf(file);
  for (const { to } of importsOf(file)) {
    const target = roomOf(to);
    if (target === room) continue;
    if (room !== '') expect(mayImport[room], `${file} imports ${to}`).toContain(target);
  }
});

test('extras has one door, which one dynamic import leads to', () => {
  const entering = modules.filter((file) => roomOf(file) !== 'extras').flatMap((file) => importsOf(file).filter(({ to }) => roomOf(to) === 'extras').map((one) => ({ file, ...one })));
  expect(entering).toEqual([{ file: 'daemon.ts', to: 'extras/index.ts', isDynamic: true }]);
});

test('there are no import cycles', () => {
  const imports = new Map(modules.map((file) => [file, importsOf(file).map(({ to }) => to)]));
  const done = new Set<string>();
  const visit = (file: string, way: readonly string[]): void => {
    expect(way, 'a circle').not.toContain(file);
    if (done.has(file)) return;
    for (const next of imports.get(file) ?? []) visit(next, [...way, file]);
    done.add(file);
  };
  for (const file of modules) visit(file, []);
});

describe(`no file has more than ${maxLines} lines`, () => {
  test.for(files)('%s', (file) => {
    expect(readFileSync(join(src, file), 'utf8').split('\n').length - 1).toBeLessThanOrEqual(maxLines);
  });
});

test('only daemon.ts ends the process', () => {
  const ending = modules.filter((file) => /process\.(exit|kill|abort)\(/.test(readFileSync(join(src, file), 'utf8')));
  expect(ending).toEqual(['daemon.ts']);
});
