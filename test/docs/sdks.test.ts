import { beforeAll, describe, expect, test } from 'vitest';
import { newMachine, type Machine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';
import { freePort } from '../support/upstream.ts';

const start = snippetIn('README.md', '--server-info "$INFO"');
const variables = snippetIn('src/proxy/README.md', 'export OPENAI_BASE_URL');
const javascript = snippetIn('src/proxy/README.md', "from 'openai'");
const python = snippetIn('src/proxy/README.md', 'from openai');
const hello = 'Hello from the stand-in upstream.';

describe('an SDK is served', () => {
  let machine: Machine;
  let instead: Record<string, string>;

  beforeAll(async () => {
    machine = await newMachine();
    instead = { 8787: String(await freePort()) };
    await machine.start(start, { instead }).waitForStderr(/^responses-api-proxy listening on /m);
  });

  test('in JavaScript', async () => {
    const { code, stdout, stderr } = await machine.runScript(javascript, { instead });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^response\.created\n[^]*\nresponse\.completed\n$/);
  });

  test('in Python', async (context) => {
    needs(context, 'command python3');
    expect(await machine.runScript(python, { instead })).toMatchObject({ code: 0, stdout: expect.stringContaining(hello), stderr: '' });
  });

  test('by two variables, without a change of the program', async () => {
    const program = "import OpenAI from 'openai'; for await (const { type } of await new OpenAI().responses.create({ model: 'gpt-5', input: 'hello', stream: true })) console.log(type);";
    const exit = await machine.run({ code: `${variables.code}cd '${machine.folder}'; '${process.execPath}' --input-type=module --eval "${program}"` }, { instead });
    expect(exit).toMatchObject({ code: 0, stdout: expect.stringMatching(/response\.completed\n$/) });
  });
});
