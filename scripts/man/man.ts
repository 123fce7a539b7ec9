/** Makes the man page: the text of `responses-api-proxy.1.in`, with the flags of `--help`. Run by `npm run prepare`. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { examples, flags } from '../../src/options.ts';
import { type Flag, broken } from '../../src/run/command-line.ts';

const root = new URL('../../', import.meta.url);

/** Longest line of the source, in characters before they are escaped. */
const maxLineLength = 70;

/**
 * Text as roff takes it (groff_char(7)): a plain hyphen may be typeset as another character, and a line must not begin
 * with a control character.
 */
function roff(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replace(/^(?=[.'])/gm, '\\&');
}

function wrapped(text: string): string {
  return text.replace(new RegExp(`(.{1,${maxLineLength}})(?: |$)`, 'g'), '$1\n');
}

function entry([name, flag]: readonly [string, Flag]): string {
  const value = flag.takes === undefined ? '' : ` \\fI${roff(flag.takes)}\\fR`;
  const fallback = flag.default === undefined ? '' : ` (default: ${flag.default})`;
  return `.TP\n\\fB\\-\\-${roff(name)}\\fR${value}\n${roff(wrapped(flag.describe + fallback))}`;
}

function options(): string {
  const all = Object.entries<Flag>(flags);
  const groups = [...new Set(all.map(([, { group }]) => group))];
  return groups.map((group = '') => `.SS ${roff(group.replace(/:$/, ''))}\n${all.filter(([, flag]) => flag.group === group).map(entry).join('')}`).join('');
}

const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string };
const parts: Readonly<Record<string, string>> = {
  '@VERSION@': version,
  '@OPTIONS@\n': options(),
  '@EXAMPLES@': examples.map((example) => roff(broken(example, maxLineLength))).join('\n'),
};
let page = readFileSync(new URL('responses-api-proxy.1.in', import.meta.url), 'utf8').replace(/^\.\\".*\n/, '');
for (const [placeholder, text] of Object.entries(parts)) page = page.replace(placeholder, () => text);
mkdirSync(new URL('dist', root), { recursive: true });
writeFileSync(new URL('dist/responses-api-proxy.1', root), page);
