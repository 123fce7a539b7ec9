import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { launcher } from '../support/daemon-paths.ts';
import type { Exit, Running } from '../support/daemon.ts';
import { newMachine, type Machine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { freePort } from '../support/upstream.ts';

const start = snippetIn('README.md', '--server-info "$INFO"');
const stop = snippetIn('README.md', 'pgrep -af');
const listening = /^responses-api-proxy listening on 127\.0\.0\.1:(\d+)\n/m;

/** What the README's port stands for. */
async function freeInstead(): Promise<Record<string, string>> {
  return { 8787: String(await freePort()) };
}

describe('the quick start, from top to bottom', () => {
  const curl = snippetIn('README.md', 'curl --no-buffer');
  const config = snippetIn('README.md', 'model_provider = ');
  const codex = snippetIn('README.md', 'codex exec');
  let machine: Machine;
  let daemon: Running;
  let instead: Record<string, string>;

  beforeAll(async () => {
    machine = await newMachine();
    instead = await freeInstead();
    daemon = machine.start(start, { instead });
    await daemon.waitForStderr(listening);
  });

  test('once the shell has its prompt back, it has the key no more', async () => {
    await machine.variable('INFO');
    expect(readFileSync(join(machine.folder, 'variables'), 'utf8')).not.toContain(machine.key);
  });

  test('the file is in a folder of the user alone', async () => {
    const file = await machine.variable('INFO');
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ port: Number(instead[8787]), pid: expect.any(Number) });
    expect(statSync(join(file, '..')).mode & 0o777).toBe(0o700);
  });

  test('curl is served', async (context) => {
    needs(context, 'command curl');
    const exit = await machine.run(curl, { instead });
    expect(exit.code).toBe(0);
    expect(exit.stdout).toContain('event: response.completed');
  });

  test('Codex is served', async () => {
    const before = machine.standIn.requests.length;
    mkdirSync(join(machine.folder, '.codex'));
    writeFileSync(join(machine.folder, '.codex', 'config.toml'), config.code.replace('8787', instead[8787] ?? ''));
    expect(await machine.run(codex)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^said: ./), stderr: '' });
    expect(machine.standIn.requests.slice(before)).toMatchObject([{ status: 200, outcome: 'answered' }]);
  });

  test('it is found, and stops', async (context) => {
    needs(context, 'command pgrep');
    const { code, stdout } = await machine.run(stop);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining(`--port ${instead[8787]} `) });
    expect((await daemon.waitForExit()).code).toBe(0);
    expect(machine.standIn.requests.every(({ headers }) => headers.authorization === `Bearer ${machine.key}`)).toBe(true);
  });
});

test('it starts again over the file of a daemon that was killed', async () => {
  const machine = await newMachine();
  const first = machine.start(start, { instead: await freeInstead() });
  await first.waitForStderr(listening);
  const { pid } = JSON.parse(readFileSync(await machine.variable('INFO'), 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
  await first.waitForExit();
  const second = machine.start(start, { instead: await freeInstead() });
  await second.waitForStderr(listening);
});

describe.for(['bash', 'dash', 'zsh'])('in %s', (shell) => {
  /** As somebody pastes it: no `set -e`, and what is there already is used. The last line stops what runs. */
  async function paste(code: string, env: Readonly<Record<string, string>> = {}): Promise<Exit & { machine: Machine }> {
    const machine = await newMachine();
    const [, kill = ''] = stop.code.split('\n');
    const exit = await machine.run({ code: `${code}${kill}\n` }, { shell, instead: await freeInstead(), env });
    return { ...exit, machine };
  }
  const asks = "curl -sS -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:8787/v1/responses -H 'Content-Type: application/json' -d '{\"model\":\"gpt-5\",\"input\":\"hello\"}'\n";

  test('pasted twice it starts one daemon, which serves', async (context) => {
    needs(context, `command ${shell}`, 'command curl');
    const { stdout, stderr } = await paste(`${start.code}${asks}${start.code}${asks}echo "\${OPENAI_API_KEY-gone}"\n`);
    expect(stdout).toBe('200\n200\ngone\n');
    expect(stderr.match(/listening on/g)).toHaveLength(1);
    expect(stderr).not.toContain('every user');
  });

  test('without the key in the environment it asks whether it is exported, and the variable stays', async (context) => {
    needs(context, `command ${shell}`);
    const { stdout, stderr, machine } = await paste(`unset OPENAI_API_KEY; OPENAI_API_KEY=not-exported\n${start.code}echo "$OPENAI_API_KEY"\n`);
    expect(stdout).toBe('not-exported\n');
    expect(stderr).toMatch(/^responses-api-proxy: no key: nothing came on stdin\nhint: .* env -u OPENAI_API_KEY \/.*\/src\/launcher\.sh; is the variable exported\?$/m);
    expect(machine.standIn.requests).toEqual([]);
  });

  test('before npm ci it says to run that', async (context) => {
    needs(context, `command ${shell}`);
    const unbuilt = join(scratchFolder(), 'src');
    mkdirSync(unbuilt);
    copyFileSync(launcher, join(unbuilt, 'launcher.sh'));
    const { stderr } = await paste(`cd '${dirname(unbuilt)}'\n${start.code}`);
    expect(stderr).toMatch(/^responses-api-proxy: is not built\nhint: run: npm ci/m);
  });
});
