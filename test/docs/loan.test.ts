import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launch } from '../support/daemon.ts';
import { newMachine, systemUser } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';

const start = snippetIn('src/extras/README.md', '--audit-log ~/loan');
const audit = snippetIn('src/extras/README.md', 'audit summary');

test('the agent is granted what the example policy grants, and the audit log tells of it', async (context) => {
  needs(context, 'root', 'command curl');
  const agent = await systemUser(context);
  const machine = await newMachine();
  const file = join(machine.folder, 'server-info.json');
  const daemon = machine.start(start, { env: { AGENT: agent.name, FILE: file } });
  await daemon.waitForStderr(/^responses-api-proxy listening on /m);

  const post = async (body: object): Promise<unknown> => {
    const { port, token } = JSON.parse(readFileSync(file, 'utf8')) as { port: number; token: string };
    const headers = ['-H', `Authorization: Bearer ${token}`, '-H', 'Content-Type: application/json'];
    const curl = launch({ launcher: 'curl', args: ['-sS', `http://127.0.0.1:${port}/v1/responses`, ...headers, '-d', JSON.stringify(body)], stdin: 'ignore', user: agent });
    return (await curl.waitForExit()).stdout;
  };
  const granted = { model: 'gpt-5', stream: true, store: false, input: 'Say hello' };
  expect(await post(granted)).toContain('event: response.completed');
  expect(await post({ ...granted, tools: [{ type: 'mcp', server_url: 'https://x' }] })).toContain('policy_denied');
  expect(machine.standIn.requests).toHaveLength(1);

  const { stdout, stderr, code } = await machine.run(audit);
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  expect(stdout).toMatch(/gpt-5 +2 /);
  expect(stdout).toMatch(/5 records, each as it was written/);
});
