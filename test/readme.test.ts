import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { startStandIn, type StandIn } from '../scripts/stand-in-upstream.ts';
import { cleanUp } from './support/cleanup.ts';
import { checkout, launcher } from './support/daemon-paths.ts';
import { launch, randomKey, runToExit, type Exit, type Running } from './support/daemon.ts';
import { runTool } from './support/native-tools.ts';
import { readmeSnippets, type Snippet } from './support/readme.ts';
import { scratchFolder } from './support/scratch.ts';
import { needs, skipUnless } from './support/skip.ts';

const readme = readFileSync(join(checkout, 'README.md'), 'utf8');
const snippets = readmeSnippets(readme);
const claimed = new Set<Snippet>();

/** Blocks in these languages show something; `service/container.test.ts` runs the lines in them that can be run. */
const shownOnly = new Set(['text', 'json', 'dockerfile', 'yaml']);

/** The one snippet that has `text` in it; the test that asks for it is the one that runs it. */
function snippet(text: string): Snippet {
  const found = snippets.filter(({ code }) => code.includes(text));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new Error(`${found.length} snippets of the README have ${JSON.stringify(text)} in them`);
  claimed.add(only);
  return only;
}

/** A user's machine: what the README's commands find on PATH, with the stand-in for api.openai.com. */
class Machine {
  readonly folder = scratchFolder();
  readonly key: string;
  readonly standIn: StandIn;
  readonly #bin = join(this.folder, 'bin');

  constructor(standIn: StandIn, key: string) {
    this.standIn = standIn;
    this.key = key;
    mkdirSync(this.#bin);
    writeFileSync(join(this.folder, 'ca.pem'), readFileSync(standIn.caFile));
    this.#install('responses-api-proxy', `#!/bin/sh\nexec '${launcher}' --upstream-url '${standIn.url}' --upstream-ca '${this.folder}/ca.pem' "$@"\n`);
    this.#install('codex', codexStandIn);
    this.#install('npm', npmStandIn);
    this.#install('sudo', sudoStandIn);
    // For imports of the SDK.
    mkdirSync(join(this.folder, 'node_modules', 'openai'), { recursive: true });
    writeFileSync(join(this.folder, 'node_modules', 'openai', 'package.json'), '{"name":"openai","type":"module","exports":"./index.js"}');
    writeFileSync(join(this.folder, 'node_modules', 'openai', 'index.js'), sdkStandIn);
    writeFileSync(this.#variables, '');
    // Whoever runs a snippet leaves variables to the next.
    chmodSync(this.#variables, 0o666);
  }

  /** A path that the README names, where it really is. */
  real(path: string): string {
    return path.replace('/tmp/', `${this.folder}/`);
  }

  /** Starts a shell snippet, with the variables that those before it have set. */
  start({ code }: Snippet, options: { env?: Readonly<Record<string, string>>; user?: { uid: number; gid: number } } = {}): Running {
    const script = `set -eua\n. '${this.#variables}'\n${this.#adapt(code)}\nexport -p > '${this.#variables}'\n`;
    return launch({
      launcher: 'sh',
      args: ['-c', script],
      stdin: 'ignore',
      cwd: this.folder,
      env: { PATH: `${this.#bin}:${process.env['PATH'] ?? ''}`, HOME: this.folder, OPENAI_API_KEY: this.key, ...options.env },
      ...(options.user === undefined ? {} : { user: options.user }),
    });
  }

  /** Runs a shell snippet to its end. */
  run(snippet: Snippet, options: Parameters<Machine['start']>[1] = {}): Promise<Exit> {
    return this.start(snippet, options).waitForExit(15_000);
  }

  /** Runs a JavaScript snippet as a module. */
  runScript({ code }: Snippet): Promise<Exit> {
    const file = join(this.folder, 'snippet.mjs');
    writeFileSync(file, this.#adapt(code));
    return runToExit({ launcher: process.execPath, args: [file], stdin: 'ignore', cwd: this.folder });
  }

  get #variables(): string {
    return join(this.folder, 'variables');
  }

  #adapt(code: string): string {
    return code.replaceAll('/tmp/', `${this.folder}/`);
  }

  #install(name: string, text: string): void {
    writeFileSync(join(this.#bin, name), text, { mode: 0o755 });
  }
}

/** As far as the README's command goes: reads the provider from -c, posts to it as Codex does, prints what is said. */
const codexStandIn = `#!/usr/bin/env node
const args = process.argv.slice(2);
if (args.shift() !== 'exec') throw new Error('only exec');
const settings = [];
while (args[0] === '-c') settings.push(args.splice(0, 2)[1]);
const [prompt, ...rest] = args;
if (prompt === undefined || rest.length > 0) throw new Error('one prompt');
const [, name, provider] = /^model_providers\\.([\\w-]+)=\\{(.*)\\}$/.exec(settings[0]) ?? [];
if (settings[1] !== 'model_provider=' + name) throw new Error('not the provider: ' + settings[1]);
const { base_url, wire_api } = Object.fromEntries([...provider.matchAll(/(\\w+)='([^']*)'/g)].map(([, key, value]) => [key, value]));
if (wire_api !== 'responses') throw new Error('wire_api');
if ('OPENAI_API_KEY' in process.env) delete process.env.OPENAI_API_KEY;
const body = JSON.stringify({ model: 'gpt-5', stream: true, store: false, input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: prompt }] }] });
const response = await fetch(base_url + '/responses', { method: 'POST', headers: { accept: 'text/event-stream', 'content-type': 'application/json' }, body });
const text = await response.text();
if (!response.ok || !text.includes('response.completed')) throw new Error(response.status + ' ' + text);
const events = [...text.matchAll(/^data: (\\{.*\\})$/gm)].map(([, data]) => JSON.parse(data));
console.log('said: ' + events.find(({ type }) => type === 'response.output_item.done').item.content[0].text);
`;

/** Writes down what root was asked to do, and the line that came on stdin for it. */
const sudoStandIn = `#!/bin/sh
set -eu
line=
case $* in *stdin*) read -r line; line=" < $line" ;; esac
printf '%s%s\\n' "$*" "$line" >> "$HOME/sudo.log"
`;

/** `npm ci` is how this checkout came about, and `npm test` is what is running: both only have to exist. The demo runs. */
const npmStandIn = `#!/bin/sh
set -eu
cd '${checkout}'
case $* in
  ci) test -f package-lock.json ;;
  test) exec node -e 'process.exit("test" in require("./package.json").scripts ? 0 : 1)' ;;
  'run demo') exec sh -c "PATH=$PWD/node_modules/.bin:$PATH; $(node -p 'require("./package.json").scripts.demo')" ;;
  'pack --silent') echo package.tgz ;;
  'install --global package.tgz') ;;
  'root --global') echo /global ;;
  *) echo "no stand-in for npm $*" >&2; exit 1 ;;
esac
`;

/** As far as the README's snippets go: the SDK's client, on fetch. */
const sdkStandIn = `
export default class OpenAI {
  constructor({ baseURL, apiKey }) {
    if (!apiKey) throw new Error('OPENAI_API_KEY is missing');
    this.responses = {
      async create(request) {
        const headers = { authorization: 'Bearer ' + apiKey, 'content-type': 'application/json', 'x-stainless-lang': 'js' };
        const response = await fetch(baseURL + '/responses', { method: 'POST', headers, body: JSON.stringify(request) });
        if (!response.ok) throw new Error(response.status + ' ' + (await response.json()).error.message);
        return request.stream ? events(response) : response.json();
      },
    };
  }
}
async function* events(response) {
  let text = '';
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    for (let end; (end = text.indexOf('\\n\\n')) >= 0; text = text.slice(end + 2)) {
      const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1];
      if (data !== undefined && data !== '[DONE]') yield JSON.parse(data);
    }
  }
}
`;

async function newMachine(): Promise<Machine> {
  const key = randomKey();
  const standIn = await startStandIn({ key });
  cleanUp(() => standIn.close());
  return new Machine(standIn, key);
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

describe('on a shared host', () => {
  const start = snippet('--issue-token');
  const curl = snippet('TOKEN=$(sed');

  test('the agent is served with its token, and nobody else', async (context) => {
    needs(context, 'root', 'command curl');
    const agent = 'daemon';
    const [uid, gid] = await Promise.all([runTool('id', ['-u', agent]), runTool('id', ['-g', agent])]);
    skipUnless(context, uid.code === 0, `needs an account called ${agent}`);
    const user = { uid: Number(uid.stdout), gid: Number(gid.stdout) };
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

describe('the commands that change the machine are those that install/ and service/ try for real', () => {
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
        'cp /global/responses-api-proxy/scripts/systemd/responses-api-proxy.service /etc/systemd/system/\n' +
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

test('every snippet is run by a test of this file', () => {
  const left = snippets.filter((one) => !claimed.has(one) && !shownOnly.has(one.language));
  expect(left.map(({ line, heading, code }) => `line ${line}, under "${heading}": ${code}`)).toEqual([]);
});
