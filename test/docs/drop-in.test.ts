import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { launcher } from '../support/daemon-paths.ts';
import { launch, nobody, randomKey, type Running } from '../support/daemon.ts';
import { runTool } from '../support/native-tools.ts';
import { statusOf } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';
import { defaultWaitMs } from '../support/wait.ts';

// How the GitHub Action openai/codex-action starts, finds, checks and stops `codex-responses-api-proxy`, line by line.

/** It looks for the file this often (and gives up after ten seconds; a test on a busy machine does later). */
const lookEveryMs = 100;

/** Both of its ways to start the proxy. It runs them in bash, and the second one needs it. */
const forms = {
  'the key by a pipe, in a subshell': '( printenv PROXY_API_KEY | env -u PROXY_API_KEY responses-api-proxy --http-shutdown --server-info "$FILE" $UPSTREAM ) &',
  'the key by a here-string, output to a file': 'env -u PROXY_API_KEY responses-api-proxy --http-shutdown --server-info "$FILE" $UPSTREAM <<<"$PROXY_API_KEY" >"$LOG" 2>&1 &',
} as const;

/** What its users have for keys. */
const keys = {
  'a project key': randomKey(),
  'base64 with its padding': `bedrock-api-key-${'Ab0+/'.repeat(20)}==`,
  'a JWT': 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2lnbmVk_-',
};

interface ServerInfo {
  readonly port: number;
  readonly pid: number;
}

/** A step of a job: `responses-api-proxy` is on PATH, and stands where the reference stood. */
class Step {
  readonly folder = scratchFolder();
  readonly key: string;
  readonly upstream: Upstream;
  readonly file: string;
  readonly log: string;

  constructor(upstream: Upstream, key: string) {
    this.upstream = upstream;
    this.key = key;
    mkdirSync(join(this.folder, 'bin'));
    symlinkSync(launcher, join(this.folder, 'bin', 'responses-api-proxy'));
    mkdirSync(join(this.folder, 'home'));
    this.file = join(this.folder, 'home', 'server-info.json');
    // Where whoever runs the step may write.
    mkdirSync(join(this.folder, 'logs'));
    chmodSync(join(this.folder, 'logs'), 0o777);
    this.log = join(this.folder, 'logs', 'proxy.log');
  }

  /** Runs a piece of bash as the step's script. */
  run(script: string, options: { user?: typeof nobody; env?: Readonly<Record<string, string>> } = {}): Running {
    return launch({
      launcher: 'bash',
      args: ['-c', `set -eo pipefail\n${script}\n`],
      stdin: 'ignore',
      cwd: this.folder,
      env: {
        PATH: `${join(this.folder, 'bin')}:${process.env['PATH'] ?? ''}`,
        PROXY_API_KEY: this.key, FILE: this.file, LOG: this.log, UPSTREAM: `--upstream-url ${this.upstream.url}`,
        // It sets this for the reference; Node 20 would refuse to start with it.
        NODE_OPTIONS: '--disable-sigusr1',
        ...options.env,
      },
      ...(options.user === undefined ? {} : { user: options.user }),
    });
  }

  /** Waits for the file as it does: polling until there is something in it. */
  async serverInfo(): Promise<ServerInfo> {
    const deadline = performance.now() + defaultWaitMs;
    let text = '';
    while (text.trim() === '') {
      if (performance.now() > deadline) throw new Error(`no server info after ${defaultWaitMs} ms: ${existsSync(this.log) ? readFileSync(this.log, 'utf8') : ''}`);
      await sleep(lookEveryMs);
      text = existsSync(this.file) ? readFileSync(this.file, 'utf8') : '';
    }
    const info = JSON.parse(text) as ServerInfo;
    cleanUp(() => {
      signalled(info.pid, 'SIGKILL');
    });
    return info;
  }

  async expectToServe({ port }: ServerInfo): Promise<void> {
    const response = await ask(port, { headers: [['content-type', 'application/json']], body: '{"model":"gpt-5","input":"hello"}' });
    expect([response.status, response.text()]).toEqual([200, '{"served":true}']);
    expect(this.upstream.requests.at(-1)?.headers).toContainEqual([expect.stringMatching(/^authorization$/i), `Bearer ${this.key}`]);
  }
}

async function newStep(key = randomKey()): Promise<Step> {
  // It knows no --upstream-ca: a loopback upstream in cleartext leaves the command as it is.
  return new Step(await startUpstream({ tls: false, answer: answer(200, '{"served":true}') }), key);
}

/** What it takes for alive: the process can be signalled, and the port can be connected to. */
function isAlive(pid: number): boolean {
  return signalled(pid, 0);
}

/** Whether there was a process to signal. It may end at any moment. */
function signalled(pid: number, signal: 0 | 'SIGKILL'): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Whether it has ended. It may still be there to be signalled: when its shell is gone, it is up to process 1 to ask how. */
function hasEnded(pid: number): boolean {
  try {
    return statusOf(pid, 'State').startsWith('Z');
  } catch {
    return true;
  }
}

/** A bare connection, on which nothing is sent. */
function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.end();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function shutDown({ port, pid }: ServerInfo): Promise<void> {
  expect(await runTool('curl', ['--fail', '--silent', '--show-error', `http://127.0.0.1:${port}/shutdown`])).toMatchObject({ code: 0, stderr: '' });
  await expect.poll(() => hasEnded(pid), { interval: 10 }).toBe(true);
  expect(await canConnect(port)).toBe(false);
}

describe.for(Object.entries(forms))('%s', ([, start]) => {
  test('it is found, alive, serves, and stops', async (context) => {
    needs(context, 'command bash', 'command curl');
    const step = await newStep();
    step.run(start);
    const info = await step.serverInfo();
    expect(Object.entries(info).map(([name, value]) => [name, typeof value])).toEqual([['port', 'number'], ['pid', 'number']]);
    expect([isAlive(info.pid), await canConnect(info.port)]).toEqual([true, true]);
    expect(readFileSync(`/proc/${info.pid}/cmdline`, 'utf8').split('\0')).toContain('--http-shutdown');
    await step.expectToServe(info);
    await shutDown(info);
    expect(existsSync(step.file)).toBe(false);
  });

  test('with a file that was made for it, in a folder it cannot write, and that root takes away afterwards', async (context) => {
    needs(context, 'root and a build that other users can run', 'command bash', 'command curl');
    const step = await newStep();
    writeFileSync(step.file, '');
    chmodSync(step.file, 0o666);
    const { ino } = statSync(step.file);
    step.run(start, { user: nobody });
    const info = await step.serverInfo();
    expect(statSync(step.file)).toMatchObject({ ino, uid: 0 });
    expect(statusOf(info.pid, 'Uid').split('\t')[0]).toBe(String(nobody.uid));
    chmodSync(step.file, 0o444);
    chownSync(step.file, 0, 0);
    const written = readFileSync(step.file, 'utf8');
    await step.expectToServe(info);
    await shutDown(info);
    expect(readFileSync(step.file, 'utf8')).toBe(written);
  });

  test('the key is in nobody\'s environment or arguments', async (context) => {
    needs(context, 'root', 'command bash', 'command curl');
    const step = await newStep();
    step.run(start);
    const info = await step.serverInfo();
    for (const file of ['environ', 'cmdline']) expect(readFileSync(`/proc/${info.pid}/${file}`, 'latin1')).not.toContain(step.key);
    await shutDown(info);
  });

  test.for(Object.entries(keys))('%s passes as a key', async ([, key], context) => {
    needs(context, 'command bash', 'command curl');
    const step = await newStep(key);
    step.run(start);
    const info = await step.serverInfo();
    await step.expectToServe(info);
    await shutDown(info);
  });

  test('without a key there is no server info, and the file is left as it was', async (context) => {
    needs(context, 'command bash');
    const step = await newStep('');
    writeFileSync(step.file, '');
    // `wait` gives the exit code of what was started last.
    expect(await step.run(`${start}\nwait $!`).waitForExit()).toMatchObject({ code: 1 });
    expect(readFileSync(step.file, 'utf8')).toBe('');
  });
});

describe('what keeps a step waiting', () => {
  test('not the daemon, when its output goes to a file: the step ends while it runs', async (context) => {
    needs(context, 'command bash', 'command curl');
    const step = await newStep();
    // Settles when the shell has ended and nobody holds its stdout and stderr.
    expect(await step.run(forms['the key by a here-string, output to a file']).waitForExit()).toMatchObject({ code: 0, stdout: '', stderr: '' });
    const info = await step.serverInfo();
    await step.expectToServe(info);
    await shutDown(info);
  });

  test('the subshell of ( a | b ) &, whatever the daemon does: it waits for the pipeline, and holds the pipes', async (context) => {
    needs(context, 'command bash', 'command curl');
    const step = await newStep();
    const start = '( printenv PROXY_API_KEY | env -u PROXY_API_KEY responses-api-proxy --http-shutdown --server-info "$FILE" $UPSTREAM >>"$LOG" 2>&1 ) &';
    const shell = step.run(start);
    const info = await step.serverInfo();
    await step.expectToServe(info);
    expect(shell.child.exitCode, 'the shell itself has ended').toBe(0);
    expect(shell.exit, 'and somebody holds its stdout').toBe(undefined);
    await shutDown(info);
    expect((await shell.waitForExit()).code).toBe(0);
  });
});
