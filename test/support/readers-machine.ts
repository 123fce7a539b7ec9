import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, type TestContext } from 'vitest';
import { startStandIn, type StandIn } from '../../scripts/stand-in-upstream.ts';
import { cleanUp } from './cleanup.ts';
import { checkout, launcher } from './daemon-paths.ts';
import { launch, randomKey, runToExit, type Exit, type Running } from './daemon.ts';
import { runTool } from './native-tools.ts';
import type { Snippet } from './readme.ts';
import { scratchFolder } from './scratch.ts';
import { skipUnless } from './skip.ts';

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Text to replace in the snippet: a port that is free for a port that may not be. */
  readonly instead?: Readonly<Record<string, string>>;
  /** A shell that a user sits at, in place of a `sh` that ends at the first failure. */
  readonly shell?: string;
}

/** A reader's machine: the commands that snippets find on PATH and in the checkout they run in, with the stand-in for api.openai.com. */
export class Machine {
  readonly folder = scratchFolder();
  readonly key: string;
  readonly standIn: StandIn;
  readonly #bin = join(this.folder, 'bin');

  constructor(standIn: StandIn, key: string) {
    this.standIn = standIn;
    this.key = key;
    mkdirSync(this.#bin);
    writeFileSync(join(this.folder, 'ca.pem'), readFileSync(standIn.caFile));
    const proxy = proxyRedirected(new URL(standIn.url).origin, `${this.folder}/ca.pem`);
    this.install('responses-api-proxy', proxy);
    mkdirSync(join(this.folder, 'src'));
    writeFileSync(join(this.folder, 'src', 'launcher.sh'), proxy, { mode: 0o755 });
    symlinkSync(join(checkout, 'scripts'), join(this.folder, 'scripts'));
    this.install('codex', codexStandIn);
    this.install('npm', npmStandIn);
    this.install('sudo', sudoStandIn);
    // For imports of the SDK.
    mkdirSync(join(this.folder, 'node_modules', 'openai'), { recursive: true });
    writeFileSync(join(this.folder, 'node_modules', 'openai', 'package.json'), '{"name":"openai","type":"module","exports":"./index.js"}');
    writeFileSync(join(this.folder, 'node_modules', 'openai', 'index.js'), sdkStandIn);
    writeFileSync(join(this.folder, 'openai.py'), pythonSdkStandIn);
    symlinkSync(join(checkout, 'node_modules', 'tsx'), join(this.folder, 'node_modules', 'tsx'));
    mkdirSync(join(this.folder, 'global'));
    symlinkSync(checkout, join(this.folder, 'global', 'responses-api-proxy'));
    writeFileSync(this.#variables, '');
    // Any user that runs a snippet leaves variables to the next.
    chmodSync(this.#variables, 0o666);
  }

  /** Resolves with a variable's value once a snippet that sets it has ended, also if it leaves a daemon behind. */
  async variable(name: string): Promise<string> {
    const look = (): string | undefined => new RegExp(`^export ${name}='(.*)'$|^declare -x ${name}="(.*)"$`, 'm').exec(readFileSync(this.#variables, 'utf8'))?.slice(1).find((value) => value !== undefined);
    await expect.poll(look, { message: name }).not.toBe(undefined);
    return look() ?? '';
  }

  /** Puts a command on its PATH. */
  install(name: string, text: string): void {
    writeFileSync(join(this.#bin, name), text, { mode: 0o755 });
  }

  /** Starts a shell snippet, with the variables that those before it have set. */
  start({ code }: Pick<Snippet, 'code'>, options: RunOptions = {}): Running {
    const text = adapted(code, options.instead);
    const script = options.shell === undefined ? `set -eua\n. '${this.#variables}'\n${text}\nexport -p > '${this.#variables}'\n` : text;
    return launch({
      launcher: options.shell ?? 'sh',
      args: ['-c', script],
      stdin: 'ignore',
      cwd: this.folder,
      env: { PATH: `${this.#bin}:${process.env['PATH'] ?? ''}`, HOME: this.folder, OPENAI_API_KEY: this.key, ...options.env },
      ...(options.user === undefined ? {} : { user: options.user }),
    });
  }

  /** Runs a shell snippet to its end. */
  run(snippet: Pick<Snippet, 'code'>, options: RunOptions = {}): Promise<Exit> {
    return this.start(snippet, options).waitForExit();
  }

  /** Runs a snippet of JavaScript, saved as a module, or of Python. */
  runScript({ code, language }: Pick<Snippet, 'code' | 'language'>, { instead, env }: RunOptions = {}): Promise<Exit> {
    const [launcher, file] = language === 'python' ? ['python3', join(this.folder, 'snippet.py')] : [process.execPath, join(this.folder, 'snippet.mjs')];
    writeFileSync(file, adapted(code, instead));
    return runToExit({ launcher, args: [file], stdin: 'ignore', cwd: this.folder, env: { PATH: process.env['PATH'] ?? '', HOME: this.folder, ...env } });
  }

  get #variables(): string {
    return join(this.folder, 'variables');
  }
}

function adapted(code: string, instead: RunOptions['instead'] = {}): string {
  return Object.entries(instead).reduce((text, [from, to]) => text.replaceAll(from, to), code);
}

/**
 * The daemon as it was asked for, but for the upstream: its host is the stand-in's, its path stays. `audit` has no upstream.
 *
 * @param origin of the stand-in, without a slash at its end
 */
function proxyRedirected(origin: string, ca: string): string {
  return `#!/bin/sh
test "\${1-}" != audit || exec ${quoted(launcher)} "$@"
path=v1/responses url= flag=
for argument; do
  case $flag in
    --endpoint) path=\${argument#/} ;;
    --upstream-url)
      argument='${origin}/'\${argument#https://*/}
      url=$argument
      ;;
  esac
  flag=$argument
  shift
  set -- "$@" "$argument"
done
test -n "$url" || set -- "$@" --upstream-url "${origin}/$path"
exec ${quoted(launcher)} --upstream-ca '${ca}' "$@"
`;
}

/** A word for a shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** The part of Codex that the README's command needs: reads the provider from its configuration, posts to it as Codex does, prints the answer. */
const codexStandIn = `#!/usr/bin/env node
import { readFileSync } from 'node:fs';
const [command, flag, prompt, ...rest] = process.argv.slice(2);
if (command !== 'exec' || flag !== '--skip-git-repo-check' || prompt === undefined || rest.length > 0) throw new Error('only exec --skip-git-repo-check PROMPT');
const config = readFileSync(process.env.HOME + '/.codex/config.toml', 'utf8');
const [, name] = /^model_provider = "(\\w+)"$/m.exec(config);
const [, provider] = new RegExp('^model_providers\\\\.' + name + ' = \\\\{(.*)\\\\}$', 'm').exec(config);
const { base_url, wire_api } = Object.fromEntries([...provider.matchAll(/(\\w+) = "([^"]*)"/g)].map(([, key, value]) => [key, value]));
if (wire_api !== 'responses') throw new Error('wire_api');
if ('OPENAI_API_KEY' in process.env) delete process.env.OPENAI_API_KEY;
const body = JSON.stringify({ model: 'gpt-5', stream: true, store: false, input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: prompt }] }] });
const response = await fetch(base_url + '/responses', { method: 'POST', headers: { accept: 'text/event-stream', 'content-type': 'application/json' }, body });
const text = await response.text();
if (!response.ok || !text.includes('response.completed')) throw new Error(response.status + ' ' + text);
const events = [...text.matchAll(/^data: (\\{.*\\})$/gm)].map(([, data]) => JSON.parse(data));
console.log('said: ' + events.find(({ type }) => type === 'response.output_item.done').item.content[0].text);
`;

/** Logs the command that root was asked to run, and the line that came on stdin for it. */
const sudoStandIn = `#!/bin/sh
set -eu
line=
case $* in *stdin*) read -r line; line=" < $line" ;; esac
printf '%s%s\\n' "$*" "$line" >> "$HOME/sudo.log"
`;

/** `npm ci` made this checkout, and `npm test` is what is running: both only have to exist. The demo runs; the benchmark takes minutes, so it only says how to use it. */
const npmStandIn = `#!/bin/sh
set -eu
cd ${quoted(checkout)}
case $* in
  ci) test -f package-lock.json ;;
  test) exec node -e 'process.exit("test" in require("./package.json").scripts ? 0 : 1)' ;;
  'run bench') exec node_modules/.bin/tsx scripts/bench.ts --help ;;
  'run demo') PATH=$PWD/node_modules/.bin:$PATH exec sh -c "$(node -p 'require("./package.json").scripts.demo')" ;;
  'pack --silent') echo package.tgz ;;
  'root --global') echo "$HOME/global" ;;
  *) echo "no stand-in for npm $*" >&2; exit 1 ;;
esac
`;

/** The part of the SDK's client that the READMEs need, on fetch. */
const sdkStandIn = `
export default class OpenAI {
  constructor({ baseURL = process.env.OPENAI_BASE_URL, apiKey = process.env.OPENAI_API_KEY } = {}) {
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

/** The same for Python. */
const pythonSdkStandIn = `
import json, os, types, urllib.request

class OpenAI:
    def __init__(self, base_url=None, api_key=None):
        self.base_url = base_url or os.environ['OPENAI_BASE_URL']
        self.api_key = api_key or os.environ['OPENAI_API_KEY']
        self.responses = self

    def create(self, **request):
        headers = {'authorization': 'Bearer ' + self.api_key, 'content-type': 'application/json'}
        with urllib.request.urlopen(urllib.request.Request(self.base_url + '/responses', json.dumps(request).encode(), headers)) as answer:
            output = json.load(answer)['output']
        texts = [part['text'] for item in output if item['type'] == 'message' for part in item['content']]
        return types.SimpleNamespace(output_text=''.join(texts))
`;

export async function newMachine(): Promise<Machine> {
  const key = randomKey();
  const standIn = await startStandIn({ key });
  cleanUp(() => standIn.close());
  return new Machine(standIn, key);
}

/** A user that every Debian has, and who is not root; skips the test where there is none. */
export async function systemUser(context: TestContext): Promise<{ readonly name: string; readonly uid: number; readonly gid: number }> {
  const name = 'daemon';
  const [uid, gid] = await Promise.all([runTool('id', ['-u', name]), runTool('id', ['-g', name])]);
  skipUnless(context, uid.code === 0, `needs a user called ${name}`);
  return { name, uid: Number(uid.stdout), gid: Number(gid.stdout) };
}
