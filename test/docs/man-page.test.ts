import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { builtMain, checkout } from '../support/daemon-paths.ts';
import { runToExit } from '../support/daemon.ts';
import { runTool } from '../support/native-tools.ts';
import { needs } from '../support/skip.ts';

const manPage = join(dirname(builtMain), 'responses-api-proxy.1');

/** The text of the page, without its markup. */
function textOf(source: string): string {
  return source.replaceAll(/\\f[BIR]/g, '').replaceAll('\\&', '').replaceAll('\\-', '-').replaceAll('\\e', '\\');
}

/** Each flag of the page: what follows its name, in one line. */
function flagsOfPage(): Map<string, string> {
  const entries = textOf(readFileSync(manPage, 'utf8')).matchAll(/^\.TP\n--([a-z-]+)([^]*?)(?=^\.[ST])/gm);
  return new Map([...entries].map(([, flag = '', rest = '']) => [flag, rest.trim().replaceAll(/\s+/g, ' ')]));
}

/** Each flag of a help: its kind of value, description and default, in the order in which the page has them. */
function flagsOfHelp(help: string): Map<string, string> {
  const entries = help.matchAll(/^ {2}--([a-z-]+) {2,}([^]*?)(?=^ {2}--|^$)/gm);
  return new Map([...entries].map(([, flag = '', rest = '']) => {
    const [, describe = '', takes, fallback] = /^(.*?)(?: \[([a-z]+)\])?(?: \[default: (.*)\])?$/.exec(rest.trim().replaceAll(/\s+/g, ' ')) ?? [];
    return [flag, `${takes === undefined ? '' : `${takes} `}${describe}${fallback === undefined ? '' : ` (default: ${fallback})`}`];
  }));
}

test('the man page has every flag of --help, in the same words', async () => {
  const help = flagsOfHelp((await runToExit({ args: ['--help'] })).stdout);
  expect(help.size).toBeGreaterThan(25);
  expect(Object.fromEntries(flagsOfPage())).toEqual(Object.fromEntries(help));
});

test.for(['list', 'summary', 'verify'])('the man page has every flag of audit %s', async (command) => {
  const { stdout } = await runToExit({ args: ['audit', command, '--help'] });
  const text = textOf(readFileSync(manPage, 'utf8'));
  for (const flag of flagsOfHelp(stdout).keys()) expect(text).toContain(`--${flag}`);
});

test('the man page has every exit code of the README, and the version of the package', () => {
  const source = readFileSync(manPage, 'utf8');
  const [, codes = ''] = /^\.SH EXIT STATUS\n([^]*?)^\.SH /m.exec(source) ?? [];
  expect([...codes.matchAll(/^\.TP\n\.B (\d)$/gm)].map(([, code]) => code)).toEqual(['0', '1', '2', '3']);
  const { version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string };
  expect(source).toContain(`"responses\\-api\\-proxy ${version}"`);
  expect(source).not.toMatch(/@[A-Z]+@/);
});

test('groff has no warning about it', async (context) => {
  needs(context, 'command groff');
  expect(await runTool('groff', ['-man', '-Tascii', '-ww', '-z', manPage])).toMatchObject({ code: 0, stdout: '', stderr: '' });
});

test('mandoc has no complaint about it', async (context) => {
  needs(context, 'command mandoc');
  expect(await runTool('mandoc', ['-T', 'lint', manPage])).toMatchObject({ code: 0, stdout: '', stderr: '' });
});

test('the package installs it', () => {
  const { man, files } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { man: readonly string[]; files: readonly string[] };
  // A list: npm passes over a single name.
  expect([man, files.includes('dist')]).toEqual([['dist/responses-api-proxy.1'], true]);
});
