import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, type TestContext } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { launch, runToExit, type Running } from '../support/daemon.ts';
import { runTool } from '../support/native-tools.ts';
import { newMachine, type Machine } from '../support/readers-machine.ts';
import { readmeSnippets, type Snippet } from '../support/readme.ts';
import { needs, skipUnless } from '../support/skip.ts';

const readme = readFileSync(join(checkout, 'README.md'), 'utf8');
const snippets = readmeSnippets(readme);
const claimed = new Set<Snippet>();

/** Blocks in these languages show something; `service/container.test.ts` runs the lines in them that can be run. */
const shownOnly = new Set(['text', 'json', 'dockerfile', 'yaml']);

/** Headings whose snippets another file runs, all of them. */
const runElsewhere: ReadonlyMap<string, string> = new Map([
  ['Coming from another gateway', 'coming-from.test.ts'],
  ['From a container, from a VM', 'beyond-loopback.test.ts'],
]);

/** The one snippet that has `text` in it; the test that asks for it is the one that runs it. */
function snippet(text: string): Snippet {
  const found = snippets.filter(({ code }) => code.includes(text));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new Error(`${found.length} snippets of the README have ${JSON.stringify(text)} in them`);
  claimed.add(only);
  return only;
}

const listening = /^responses-api-proxy listening on 127\.0\.0\.1:(\d+)\n/m;

describe('the first two screens, top to bottom', () => {
  const start = snippet('responses-api-proxy --http-shutdown');
  const codex = snippet('codex exec');
  const sdk = snippet("from 'openai'");
  const curl = snippet('curl --no-buffer');
  const stop = snippet('/shutdown\n');
  let machine: Machine;
  let daemon: Running;

  beforeAll(async () => {
    machine = await newMachine();
    daemon = machine.start(start);
    await daemon.waitForStderr(listening, 15_000);
  });

  test('the daemon starts', () => {
    const info = JSON.parse(readFileSync(machine.real('/tmp/server-info.json'), 'utf8')) as { port: number };
    expect(info.port).toBe(Number(listening.exec(daemon.stderr)?.[1]));
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

  test('curl is served', async (context) => {
    needs(context, 'command curl');
    const exit = await machine.run(curl);
    expect(exit.code).toBe(0);
    expect(exit.stdout).toContain('event: response.completed');
  });

  test('it stops', async (context) => {
    needs(context, 'command curl');
    expect((await machine.run(stop)).code).toBe(0);
    expect((await daemon.waitForExit()).code).toBe(0);
    expect(machine.standIn.requests.every(({ headers }) => headers.authorization === `Bearer ${machine.key}`)).toBe(true);
  });
});

/** An account that every Debian has. */
const agent = 'daemon';

async function accountOf(name: string, context: TestContext): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all([runTool('id', ['-u', name]), runTool('id', ['-g', name])]);
  skipUnless(context, uid.code === 0, `needs an account called ${name}`);
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}

describe('on a shared host', () => {
  const start = snippet('--run-as nobody');
  const curl = snippet('TOKEN=$(sed');

  test('the agent is served with its token, and nobody else', async (context) => {
    needs(context, 'root', 'command curl');
    const user = await accountOf(agent, context);
    const machine = await newMachine();
    const file = join(machine.folder, 'server-info.json');
    const env = { AGENT: agent, FILE: file };
    const daemon = machine.start(start, { env });
    const [, port] = await daemon.waitForStderr(listening, 15_000);

    const served = await machine.run(curl, { env: { ...env, PORT: port ?? '' }, user });
    expect(served.code).toBe(0);
    expect(JSON.parse(served.stdout)).toMatchObject({ object: 'response', status: 'completed' });

    const refused = await machine.run(curl, { env: { ...env, PORT: port ?? '' } });
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'user_not_allowed' } });
    expect(machine.standIn.requests).toHaveLength(1);
  });
});

describe('on loan', () => {
  const start = snippet('--audit-required');
  const audit = snippet('audit summary');

  test('the agent is granted what the example policy grants, and the audit log tells of it', async (context) => {
    needs(context, 'root', 'command curl');
    const user = await accountOf(agent, context);
    const machine = await newMachine();
    const file = join(machine.folder, 'server-info.json');
    const daemon = machine.start(start, { env: { AGENT: agent, FILE: file } });
    await daemon.waitForStderr(listening, 15_000);

    const post = async (body: object): Promise<unknown> => {
      const { port, token } = JSON.parse(readFileSync(file, 'utf8')) as { port: number; token: string };
      const headers = ['-H', `Authorization: Bearer ${token}`, '-H', 'Content-Type: application/json'];
      const curl = launch({ launcher: 'curl', args: ['-sS', `http://127.0.0.1:${port}/v1/responses`, ...headers, '-d', JSON.stringify(body)], stdin: 'ignore', user });
      return (await curl.waitForExit()).stdout;
    };
    const granted = { model: 'gpt-5', stream: true, store: false, input: 'Say hello' };
    expect(await post(granted)).toContain('event: response.completed');
    expect(await post({ ...granted, tools: [{ type: 'mcp', server_url: 'https://x' }] })).toContain('policy_denied');
    expect(machine.standIn.requests).toHaveLength(1);

    const { stdout, stderr, code } = await machine.run(audit);
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    expect(stdout).toMatch(/gpt-5 +2 /);
    expect(stdout).toMatch(/3 records, each as it was written/);
  });

  test('the policy that is shown is the one that ships', () => {
    const shown = snippets.find(({ code }) => code.includes('"tokens_per_day"'));
    expect(shown?.code).toBe(readFileSync(join(checkout, 'scripts/policies/codex.json'), 'utf8'));
  });
});

describe('the commands for a fresh clone', () => {
  test('npm ci && npm run demo', { timeout: 60_000 }, async () => {
    const demo = snippet('npm ci && npm run demo\n');
    expect(demo.code).toBe('npm ci && npm run demo\n');
    const exit = await (await newMachine()).start(demo).waitForExit(50_000);
    expect(exit.stderr + exit.stdout).toContain('response.completed');
    expect(exit.code).toBe(0);
  });

  test('npm ci && npm test', async () => {
    const tests = snippet('npm ci && npm test\n');
    expect(tests.code).toBe('npm ci && npm test\n');
    expect((await (await newMachine()).run(tests)).code).toBe(0);
  });
});

describe('the commands that change the machine are those that the long suite tries for real', () => {
  test('install', async () => {
    const install = snippet('npm pack --silent');
    expect(install.code).toBe('npm ci && npm install --global "$(npm pack --silent)"\n');
    expect((await (await newMachine()).run(install)).code).toBe(0);
  });

  test('the service', async () => {
    const service = snippet('systemctl enable');
    const machine = await newMachine();
    expect((await machine.run(service)).code).toBe(0);
    expect(readFileSync(join(machine.folder, 'sudo.log'), 'utf8')).toBe(
      `install -m 600 /dev/stdin /etc/openai-api-key < ${machine.key}\n` +
        `cp ${machine.folder}/global/responses-api-proxy/scripts/systemd/responses-api-proxy.service /etc/systemd/system/\n` +
        'systemctl enable --now responses-api-proxy\n',
    );
  });
});

test('the table of options has every flag that --help has, and no other', async () => {
  const { stdout } = await runToExit({ args: ['--help'] });
  const flagsIn = (text: string, pattern: RegExp): Set<string | undefined> => new Set([...text.matchAll(pattern)].map(([, flag]) => flag));
  const inHelp = flagsIn(stdout, /^ {2}(--[a-z-]+)/gm);
  inHelp.delete('--help');
  inHelp.delete('--version');
  expect(flagsIn(readme, /^\| `(--[a-z-]+)/gm)).toEqual(inHelp);
});

test('every snippet is run by a test of this file, or of another', () => {
  const left = snippets.filter((one) => !claimed.has(one) && !shownOnly.has(one.language) && !runElsewhere.has(one.heading));
  expect(left.map(({ line, heading, code }) => `line ${line}, under "${heading}": ${code}`)).toEqual([]);
});
