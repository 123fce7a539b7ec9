import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Running } from '../support/daemon.ts';
import { newMachine, type Machine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';

const start = snippetIn('README.md', '--server-info "$INFO"');
const listening = /^responses-api-proxy listening on 127\.0\.0\.1:(\d+)\n/m;

describe('the quick start, from top to bottom', () => {
  const curl = snippetIn('README.md', 'curl --no-buffer');
  const codex = snippetIn('README.md', 'codex exec');
  const sdk = snippetIn('src/proxy/README.md', "from 'openai'");
  const stop = snippetIn('README.md', '/shutdown\n');
  let machine: Machine;
  let daemon: Running;

  beforeAll(async () => {
    machine = await newMachine();
    daemon = machine.start(start);
    await daemon.waitForStderr(listening);
  });

  test('once the shell has its prompt back, it knows the port', async () => {
    expect(await machine.variable('PORT')).toBe(listening.exec(daemon.stderr)?.[1]);
    expect(readFileSync(join(machine.folder, 'variables'), 'utf8')).not.toContain(machine.key);
  });

  test('the file is in a folder of the user alone', async () => {
    const file = await machine.variable('INFO');
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ port: Number(await machine.variable('PORT')), pid: expect.any(Number) });
    expect(statSync(join(file, '..')).mode & 0o777).toBe(0o700);
  });

  test('curl is served', async (context) => {
    needs(context, 'command curl');
    const exit = await machine.run(curl);
    expect(exit.code).toBe(0);
    expect(exit.stdout).toContain('event: response.completed');
  });

  test('Codex is served', async () => {
    const before = machine.standIn.requests.length;
    expect(await machine.run(codex)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^said: ./), stderr: '' });
    expect(machine.standIn.requests.slice(before)).toMatchObject([{ status: 200, outcome: 'answered' }]);
  });

  test('an SDK is served', async () => {
    const exit = await machine.runScript(sdk);
    expect(exit).toMatchObject({ code: 0, stderr: '' });
    const types = exit.stdout.trim().split('\n');
    expect([types[0], types.at(-1)]).toEqual(['response.created', 'response.completed']);
  });

  test('it stops', async (context) => {
    needs(context, 'command curl');
    expect((await machine.run(stop)).code).toBe(0);
    expect((await daemon.waitForExit()).code).toBe(0);
    expect(machine.standIn.requests.every(({ headers }) => headers.authorization === `Bearer ${machine.key}`)).toBe(true);
  });
});

test('it starts again over the file of a daemon that was killed', async () => {
  const machine = await newMachine();
  const first = machine.start(start);
  await first.waitForStderr(listening);
  const { pid } = JSON.parse(readFileSync(await machine.variable('INFO'), 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
  await first.waitForExit();
  const second = machine.start(start);
  const [, port] = await second.waitForStderr(listening);
  await expect.poll(() => machine.variable('PORT')).toBe(port);
});

test('without a key it says so, and does not wait for a daemon that is gone', async () => {
  const machine = await newMachine();
  const { code, stderr } = await machine.run(start, { env: { OPENAI_API_KEY: '' } });
  expect(code).not.toBe(0);
  expect(stderr).toMatch(/^responses-api-proxy: no key: .*\nhint: /m);
});
