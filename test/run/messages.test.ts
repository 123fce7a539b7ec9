import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readPolicy } from '../../src/extras/policy/policy.ts';
import { failureOf, misuseOf } from '../support/command-line.ts';
import { nobody, runToExit, type DaemonOptions } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

/** The message and the hint of a start that fails before it reads a key. */
async function refused(code: number, options: DaemonOptions): Promise<{ message: string; hint: string }> {
  const exit = await runToExit({ ...options, stdin: () => {} });
  return { message: refusalOf(exit, code), hint: /^hint: (.*)$/m.exec(exit.stderr)?.[1] ?? '' };
}

describe('flags that need root say so', () => {
  test('--run-as', async (context) => {
    needs(context, 'root and a build that other users can run');
    const { message, hint } = await refused(2, { args: ['--run-as', 'daemon'], user: nobody });
    expect(message).toBe('--run-as needs root, to give it up');
    expect(hint).toContain('daemon');
  });

  test('a --port below 1024', async (context) => {
    needs(context, 'root and a build that other users can run', 'command setpriv');
    const exit = await runToExit({ args: ['--port', '81'], prefix: ['setpriv', '--inh-caps', '-all', '--bounding-set', '-all'] });
    expect(refusalOf(exit, 1)).toBe('cannot bind 127.0.0.1:81: permission denied');
    expect(exit.stderr).toMatch(/^hint: .*needs root/m);
  });
});

test.for(['root', '0'])('--run-as %s says that it is still root', async (user, context) => {
  needs(context, 'root');
  expect((await refused(2, { args: ['--run-as', user] })).message).toBe('--run-as "root" is still root');
});

describe('--audit-log says what is wrong with its folder', () => {
  test('there is none', async () => {
    const { message, hint } = await refused(1, { args: ['--audit-log', join(scratchFolder(), 'no', 'audit.jsonl')] });
    expect(message).toMatch(/^cannot open the folder of --audit-log \S+: no such file or directory$/);
    expect(hint).toBe('create it first');
  });

  test('we may not write to it', async (context) => {
    needs(context, 'root and a build that other users can run');
    const folder = join(scratchFolder(), 'folder');
    mkdirSync(folder, { mode: 0o755 });
    const { message, hint } = await refused(1, { args: ['--audit-log', join(folder, 'audit.jsonl')], user: nobody });
    expect(message).toMatch(/: permission denied$/);
    expect(hint).toMatch(/right to write/);
  });

  test('it is read-only', async (context) => {
    needs(context, 'root', 'command unshare');
    const folder = scratchFolder();
    const prefix = ['unshare', '--mount', 'sh', '-c', `mount -t tmpfs -o ro none '${folder}' && exec "$@"`, 'sh'];
    const { message, hint } = await refused(1, { args: ['--audit-log', join(folder, 'audit.jsonl')], prefix });
    expect(message).toMatch(/: read-only file system$/);
    expect(hint).toMatch(/LogsDirectory=/);
  });
});

test.for([['foo'], ['X-Name'], ['X-Name=value'], ['']])('--upstream-header %j says that a colon is missing', async ([header = '']) => {
  const { message } = await misuseOf(['--upstream-header', header]);
  expect(message).toBe(header === '' ? '--upstream-header needs a value' : "--upstream-header takes 'Name: value', with a colon");
});

describe("a policy's syntax error has a line and a column", () => {
  test.for<readonly [text: string, line: number, column: number]>([
    ['{ "models": ["gpt-5"], }', 1, 24],
    ['{\n  "models": ["gpt-5"]\n  "tools": []\n}\n', 3, 3],
    ['{\n  "models": ["gpt-5",\n}', 3, 1],
    ['{\r\n\t"models": ["gpt-5"],\r\n\t"stream_only": yes\r\n}', 3, 17],
    ['{ "models": ["gpt-5"], // only this\n}', 1, 24],
    ['{ "ключ": "значение", models }', 1, 23],
    ['{ "models": ["gpt-5] }\n', 1, 14],
    ['', 1, 1],
    ['{ "models": ["gpt-5"] }\n}', 2, 1],
  ])('%j', async ([text, line, column]) => {
    const file = join(scratchFolder(), 'policy.json');
    writeFileSync(file, text);
    const { message } = await failureOf(() => readPolicy(file, '/v1/responses', '/v1/responses'), 1);
    expect(message).toBe(`--policy ${file}: the policy is not JSON at line ${line}, column ${column}`);
  });
});

test('what somebody else named begins no line of its own, and is nothing that a terminal obeys', async () => {
  const { stderr } = await runToExit({ args: ['--policy', '/none/\u001b[2J\u009b2J\u202e\rhint: forged\nresponses-api-proxy listening on 127.0.0.1:1'], stdin: () => {} });
  expect(stderr).toContain('\\u001b[2J\\u009b2J\\u202e\\u000dhint: forged\\u000aresponses-api-proxy listening on');
  expect(stderr).toMatch(/^[\x20-\x7e]+\nhint: [\x20-\x7e]+\n$/);
});
