import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { documents, headingsOf, snippetsOf, textOf } from '../support/readme.ts';

/** The anchor that GitHub gives a heading. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-');
}

/** Why a link leads nowhere, or undefined. */
function problemOf(document: string, target: string): string | undefined {
  const [path = '', anchor] = target.split('#');
  const file = path === '' ? document : join(document, '..', path);
  if (file.startsWith('..') || !existsSync(join(checkout, file))) return `${document}: there is no ${file}`;
  if (anchor === undefined) return undefined;
  if (statSync(join(checkout, file)).isDirectory() || !headingsOf(file).some((heading) => anchorOf(heading) === anchor)) return `${document}: ${file} has no heading for #${anchor}`;
  return undefined;
}

/** Where the links of a README that stay in the checkout lead. */
function linksOf(document: string): string[] {
  return [...textOf(document).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target).filter((target) => !/^[a-z]+:/.test(target));
}

test.for(documents())('every link of %s leads somewhere', (document) => {
  expect(linksOf(document).map((target) => problemOf(document, target)).filter((problem) => problem !== undefined)).toEqual([]);
});

test('every README is reached from the first one', () => {
  const reached = new Set<string>();
  const visit = (document: string): void => {
    if (reached.has(document) || !document.endsWith('README.md')) return;
    reached.add(document);
    for (const target of linksOf(document)) {
      const [path = ''] = target.split('#');
      if (path !== '') visit(join(document, '..', path));
    }
  };
  visit('README.md');
  expect([...reached].sort()).toEqual(documents().sort());
});

test('the first README stays short', () => {
  expect(textOf('README.md').split('\n').length).toBeLessThanOrEqual(211);
});

test('all of them can be read in an hour', () => {
  const words = documents().flatMap((document) => textOf(document).split(/\s+/).filter((word) => word !== ''));
  expect(words.length).toBeLessThanOrEqual(9000);
});

test.for(['src/key', 'src/proxy', 'src/extras'])('the layout of %s names each file and folder, and no other', (folder) => {
  const [layout] = snippetsOf(join(folder, 'README.md'));
  const named = (layout?.code.split('\n') ?? []).flatMap((line) => (/^(?:[\w-]+(?:\.ts|\/)(?:, )?)+/.exec(line)?.[0] ?? '').split(', ')).filter((name) => name !== '');
  const there = readdirSync(join(checkout, folder), { withFileTypes: true }).map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
  expect(named.sort()).toEqual(there.filter((name) => !['README.md', 'index.ts'].includes(name)).sort());
});
