import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { documents, textOf } from '../support/readme.ts';

const found = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, code = '']) => code);

test('the READMEs have every code of the daemon\'s errors, and no other', () => {
  const sources = readdirSync(join(checkout, 'src'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const inSources = new Set(sources.flatMap((file) => found(readFileSync(join(checkout, 'src', file), 'utf8'), /\bcode: '([a-z_]+)'/g)));
  const inTables = new Set(documents().flatMap((document) => found(textOf(document), /^\| \d{3} \| `([a-z_]+)`/gm)));
  expect(inSources.size).toBeGreaterThan(10);
  expect([...inTables].sort()).toEqual([...inSources].sort());
});
