import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { helpAt } from '../support/help.ts';
import { runTool } from '../support/native-tools.ts';
import { newMachine } from '../support/readers-machine.ts';
import { freePort } from '../support/upstream.ts';

/** The examples, as they are copied from the screen: one goes on where its line ends in a backslash. */
function examplesIn(help: string): string[] {
  const [, block = ''] = /^Examples:\n([^]*?)\n\n/m.exec(help) ?? [];
  return block.match(/(?:.*\\\n)*.+/g) ?? [];
}

/** The arguments that sh makes of a command for the daemon, a line each. */
async function argumentsOf(command: string): Promise<string> {
  const standIns = 'printenv() { :; }; env() { shift 2; "$@"; }; daemon() { printf "%s\\n" "$@"; }';
  const { code, stdout, stderr } = await runTool('sh', ['-euc', `${standIns}\n${command.replace('responses-api-proxy', 'daemon')}`]);
  expect({ code, stderr }, command).toEqual({ code: 0, stderr: '' });
  return stdout;
}

test.for([40, 60, 80, 100])('at %i columns sh reads the same words in each example as on one line', async (columns, context) => {
  const [onScreen, onOneLine] = await Promise.all([columns, 1_000].map(async (width) => examplesIn(await helpAt(width, context))));
  expect(onOneLine?.filter((example) => example.includes('\n'))).toEqual([]);
  expect(onScreen).toHaveLength(onOneLine?.length ?? 0);
  for (const [index, example] of onScreen?.entries() ?? []) {
    expect(Math.max(...example.split('\n').map((line) => line.length))).toBeLessThanOrEqual(columns);
    expect(await argumentsOf(example)).toBe(await argumentsOf(onOneLine?.[index] ?? ''));
  }
});

test('each example runs as it is copied', async (context) => {
  const machine = await newMachine();
  copyFileSync(join(checkout, 'scripts/policies/codex.json'), join(machine.folder, 'codex.json'));
  const examples = examplesIn(await helpAt(60, context));
  expect(examples.length).toBeGreaterThan(4);
  for (const code of examples) {
    const running = machine.start({ code }, { instead: { 8080: String(await freePort()) } });
    if (code.includes(' audit ')) expect(await running.waitForExit()).toMatchObject({ code: 0, stderr: '' });
    else await running.waitForStderr(/^responses-api-proxy listening on /m);
  }
});

test('it says what the program is, names audit, and has the exit codes', async (context) => {
  const lines = (await helpAt(60, context)).split('\n');
  expect(lines[0]).toBe('Keeps one API key, to be used for POST /v1/responses only.');
  expect(lines).toContain('responses-api-proxy audit --help');
  expect(lines.join(' ').trim()).toMatch(/ Exit codes: 0 .*, 1 .*, 2 .*, 3 [^.]*\.$/);
});
