import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { newMachine, type Machine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';

const steps = snippetIn('scripts/systemd/README.md', 'Start the proxy').code;

/** What a step runs: the rest of the line, or the lines that are indented below it. */
function scriptOf(name: string): string {
  const [, step = ''] = steps.split(`- name: ${name}\n`);
  const [, line = '', block = ''] = /^  run: (.*)\n((?: {4}.*\n)*)/m.exec(step) ?? [];
  return line === '|' ? block.replaceAll(/^ {4}/gm, '') : `${line}\n`;
}

/** A job on a runner: its steps share folders and what they write to GITHUB_ENV, and each is a bash that ends at the first failure. */
class Job {
  readonly machine: Machine;
  readonly info: string;
  readonly #environment: string;

  constructor(machine: Machine, info: string) {
    this.machine = machine;
    this.info = join(machine.folder, info);
    this.#environment = join(machine.folder, 'github-env');
    mkdirSync(join(this.info, '..'), { recursive: true });
    writeFileSync(this.#environment, '');
  }

  /** Resolves once nobody holds the step's output, as a runner waits for it. */
  run(script: string, env: Readonly<Record<string, string>> = {}) {
    const exported = Object.fromEntries(readFileSync(this.#environment, 'utf8').split('\n').filter((line) => line !== '').map((line) => line.split(/=(.*)/s, 2)));
    const runner = { RUNNER_TEMP: this.machine.folder, GITHUB_ENV: this.#environment, INFO: this.info };
    return this.machine.run({ code: `set -e\n${script}` }, { shell: 'bash', env: { OPENAI_API_KEY: '', ...runner, ...exported, ...env } });
  }

  start(key = this.machine.key) {
    return this.run(scriptOf('Start the proxy'), { OPENAI_API_KEY: key });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe.for(['proxy.json', 'codex-home/4711.json'])('with the server info in %s', (info) => {
  test('a step starts it, the next is served without the key, the last ends it', async (context) => {
    needs(context, 'command bash', 'command curl', 'command jq');
    const job = new Job(await newMachine(), info);
    expect(await job.start()).toMatchObject({ code: 0, stdout: '', stderr: '' });
    const agent = `curl -sS "$OPENAI_BASE_URL/responses" -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' -d '{"model":"gpt-5","input":"hello"}'`;
    const served = await job.run(agent);
    expect(JSON.parse(served.stdout)).toMatchObject({ object: 'response', status: 'completed' });
    expect(job.machine.standIn.requests.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${job.machine.key}`]);
    const { pid } = JSON.parse(readFileSync(job.info, 'utf8')) as { pid: number };
    expect((await job.run(scriptOf('Stop the proxy'))).code).toBe(0);
    await expect.poll(() => isAlive(pid)).toBe(false);
  });
});

test('a start that fails says why, and fails the step', async (context) => {
  needs(context, 'command bash');
  const { code, stdout } = await new Job(await newMachine(), 'proxy.json').start('');
  expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringMatching(/responses-api-proxy: no key: .*\n.*hint: /) });
});
