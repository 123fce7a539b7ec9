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

/** All fenced blocks of README.md, in order. */
export function readmeSnippets(text = readFileSync(join(checkout, 'README.md'), 'utf8')): Snippet[] {
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
