import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from './daemon-paths.ts';

/** A fenced block of a README. */
export interface Snippet {
  /** The README's path from the checkout's root. */
  readonly document: string;
  /** The word after the opening fence: `sh`, `js`, ... */
  readonly language: string;
  readonly code: string;
  /** The line on which the code begins. */
  readonly line: number;
  /** The nearest heading above it. */
  readonly heading: string;
}

const otherPeoplesFolders = new Set(['node_modules', 'dist']);

/** Every README.md of this checkout, by its path from the root. */
export function documents(folder = ''): string[] {
  return readdirSync(join(checkout, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return otherPeoplesFolders.has(entry.name) || entry.name.startsWith('.') ? [] : documents(path);
    return entry.name === 'README.md' ? [path] : [];
  });
}

/** The text of a README, by its path from the root. */
export function textOf(document: string): string {
  return readFileSync(join(checkout, document), 'utf8');
}

/**
 * The one snippet of a README that has `text` in it. A test that runs it asks for it with two literals, because
 * `docs/every-snippet.test.ts` looks for snippets that no test asks for.
 */
export function snippetIn(document: string, text: string): Snippet {
  const found = snippetsOf(document).filter(({ code }) => code.includes(text));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new Error(`${found.length} snippets of ${document} have ${JSON.stringify(text)} in them`);
  return only;
}

/** The first table below a heading of a README: its rows' cells, without the row that names the columns. */
export function tableIn(document: string, heading: string): string[][] {
  const [, below = ''] = textOf(document).split(new RegExp(`^#+ ${heading}$`, 'm'));
  const [table = ''] = /^\|[^]*?(?=\n[^|])/m.exec(below) ?? [];
  const [, , ...rows] = table.split('\n').map((row) => row.slice(1, -1).split('|').map((cell) => cell.trim()));
  if (rows.length === 0) throw new Error(`${document} has no table below "${heading}"`);
  return rows;
}

/** A README's headings, in order, without those that look like one inside a fenced block. */
export function headingsOf(document: string): string[] {
  const outside = textOf(document).replace(/^(`{3,}|~{3,})[^]*?^\1$/gm, '');
  return [...outside.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading);
}

/** All fenced blocks of a README, in order. */
export function snippetsOf(document: string): Snippet[] {
  const snippets: Snippet[] = [];
  let heading = '';
  let open: { fence: string; language: string; line: number; code: string[] } | undefined;
  for (const [index, line] of textOf(document).split('\n').entries()) {
    if (open !== undefined) {
      if (line.trim() === open.fence) {
        snippets.push({ document, language: open.language, code: `${open.code.join('\n')}\n`, line: open.line, heading });
        open = undefined;
      } else {
        open.code.push(line);
      }
      continue;
    }
    const fence = /^\s*(`{3,}|~{3,})(.*)$/.exec(line);
    if (fence !== null) open = { fence: fence[1] ?? '', language: (fence[2] ?? '').trim(), line: index + 2, code: [] };
    else heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading;
  }
  if (open !== undefined) throw new Error(`${document}: the block of line ${open.line} has no end`);
  return snippets;
}
