import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from './daemon-paths.ts';

/** A fenced block of the README. */
export interface Snippet {
  /** What stands behind the opening fence: `sh`, `js`, ... */
  readonly language: string;
  readonly code: string;
  /** The line of the README on which the code begins. */
  readonly line: number;
  /** The nearest heading above it. */
  readonly heading: string;
}

function readme(): string {
  return readFileSync(join(checkout, 'README.md'), 'utf8');
}

/** The first table below a heading of README.md: its rows' cells, without the one that names the columns. */
export function readmeTable(heading: string): string[][] {
  const [, below = ''] = readme().split(new RegExp(`^#+ ${heading}$`, 'm'));
  const [table = ''] = /^\|[^]*?(?=\n[^|])/m.exec(below) ?? [];
  const [, , ...rows] = table.split('\n').map((row) => row.slice(1, -1).split('|').map((cell) => cell.trim()));
  if (rows.length === 0) throw new Error(`README.md has no table below "${heading}"`);
  return rows;
}

/** All fenced blocks of README.md, in order. */
export function readmeSnippets(text = readme()): Snippet[] {
  const snippets: Snippet[] = [];
  let heading = '';
  let open: { fence: string; language: string; line: number; code: string[] } | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    if (open !== undefined) {
      if (line.trim() === open.fence) {
        snippets.push({ language: open.language, code: `${open.code.join('\n')}\n`, line: open.line, heading });
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
  if (open !== undefined) throw new Error(`README.md: the block of line ${open.line} has no end`);
  return snippets;
}
