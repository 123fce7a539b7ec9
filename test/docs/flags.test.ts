import { expect, test } from 'vitest';
import { runToExit } from '../support/daemon.ts';
import { documents, textOf } from '../support/readme.ts';

test('every flag of --help is in exactly one table of the READMEs, and they have no other', async () => {
  const { stdout } = await runToExit({ args: ['--help'] });
  const flagsIn = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, flag = '']) => flag);
  // A description that wraps can begin a line with another flag's name.
  const inHelp = [...new Set(flagsIn(stdout, /^ {2}(--[a-z-]+)/gm))].filter((flag) => flag !== '--help' && flag !== '--version');
  const inTables = documents().flatMap((document) => flagsIn(textOf(document), /^\| `(--[a-z-]+)/gm));
  expect(inHelp.length).toBeGreaterThan(10);
  expect(inTables.sort()).toEqual(inHelp.sort());
});
