import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import type { Writable } from 'node:stream';
import { cleanUp } from './cleanup.ts';
import { checkout, launcher } from './daemon-paths.ts';
import { Changing, Once, within } from './wait.ts';

/** How the daemon is started. Everything has a default that suits a test which does not care. */
export interface DaemonOptions {
  /** Its flags. Most tests begin with `upstream.args`. */
  readonly args?: readonly string[];
  /** The key it is given on stdin, followed by a newline and the end. Default: `randomKey()`. */
  readonly key?: string;
  /**
   * What stdin is, instead of the key: bytes to be written before it is ended; a function that is given the writable end and leaves it
   * open unless it ends it; the number of an open file descriptor; 'ignore' for /dev/null.
   * Stdin, as Node makes it, is a socket pair; for a real pipe or a terminal use `prefix`.
   */
  readonly stdin?: string | Uint8Array | ((stdin: Writable) => unknown) | number | 'ignore';
  /** What stderr is, instead of a pipe that is read: the number of an open file descriptor. */
  readonly stderr?: number;
  /** An open file descriptor that is its descriptor 3. Default: none is. */
  readonly descriptor3?: number;
  /** The environment of the launcher besides PATH. Nothing is inherited from the test run. */
  readonly env?: Readonly<Record<string, string>>;
  /** A command that executes the launcher (without forking, or pid and exit are its own): ['prlimit', '--memlock=65536'], shell('umask 077'), ... */
  readonly prefix?: readonly string[];
  /** Another user to start it as (root only). */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** The path of another node binary, which is then the first on PATH. It has to be called `node`. */
  readonly node?: string;
  readonly cwd?: string;
  /** Another launcher: a symlink to it, or that of another build. */
  readonly launcher?: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The uid and gid of `nobody`, the other user of tests that run as root. */
export const nobody = { uid: 65_534, gid: 65_534 } as const;

/** A fresh key of the length and alphabet of a real project key. */
export function randomKey(): string {
  return `sk-proj-${randomBytes(117).toString('base64url')}`;
}

/** A `prefix` that runs some shell before it executes the daemon: `shell('umask 077')`, `shell('trap "" HUP')`, `shell('exec 2>&-')`. */
export function shell(commands: string): readonly string[] {
  return ['sh', '-c', `${commands}\nexec "$@"`, 'sh'];
}

/** A started process that may or may not become a listening daemon. */
export class Running {
  readonly key: string;
  readonly child: ChildProcess;
  readonly pid: number;
  /** Settles when it has ended and all of its output is here. */
  readonly exited: Promise<Exit>;
  readonly #exit = new Once<Exit>();
  readonly #output = new Changing();
  #stdout = '';
  #stderr = '';

  constructor(child: ChildProcess, key: string) {
    if (child.pid === undefined) throw new Error(`cannot start ${child.spawnfile}`);
    this.child = child;
    this.pid = child.pid;
    this.key = key;
    this.exited = this.#exit.promise;
    child.stdout?.setEncoding('latin1').on('data', (text: string) => {
      this.#stdout += text;
      this.#output.changed();
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#output.changed();
    });
    child.once('close', (code, signal) => {
      this.#exit.resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr });
      this.#output.changed();
    });
  }

  /** All of stdout so far. */
  get stdout(): string {
    return this.#stdout;
  }

  /** All of stderr so far. */
  get stderr(): string {
    return this.#stderr;
  }

  /** The exit, if it has ended. */
  get exit(): Exit | undefined {
    return this.#exit.value;
  }

  /** Resolves with the match once stderr as a whole matches; rejects if the process ends without. */
  waitForStderr(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    const look = (): RegExpExecArray | undefined => {
      const match = pattern.exec(this.#stderr);
      if (match !== null) return match;
      const exit = this.#exit.value;
      if (exit !== undefined) throw new Error(`ended (code ${exit.code}, signal ${exit.signal}) without ${pattern} on stderr:\n${exit.stderr}`);
      return undefined;
    };
    return this.#output.when(look, () => `${pattern} on stderr, which has:\n${this.#stderr}`, timeoutMs);
  }

  /** Resolves once stderr as a whole has `text` in it `count` times; rejects if the process ends without. */
  async waitForStderrTimes(text: string, count: number, timeoutMs?: number): Promise<void> {
    const look = (): true | undefined => {
      if (this.#stderr.split(text).length > count) return true;
      const exit = this.#exit.value;
      if (exit !== undefined) throw new Error(`ended (code ${exit.code}, signal ${exit.signal}) without ${count} times ${text} on stderr:\n${exit.stderr}`);
      return undefined;
    };
    await this.#output.when(look, () => `${count} times ${text} on stderr, which has:\n${this.#stderr}`, timeoutMs);
  }

  /** Sends a signal to the process itself. */
  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** `exited` with a deadline. */
  waitForExit(timeoutMs?: number): Promise<Exit> {
    return within(this.exited, `the end of process ${this.pid}; stderr so far:\n${this.#stderr}`, timeoutMs);
  }

  /** Ends it with SIGTERM. The clean-up after each test does it with SIGKILL, so few tests need this. */
  stop(): Promise<Exit> {
    this.signal('SIGTERM');
    return this.waitForExit();
  }
}

/** A daemon that listens. */
export interface Daemon extends Running {
  readonly port: number;
  /** http://127.0.0.1:PORT */
  readonly origin: string;
  /** http://127.0.0.1:PORT/v1/responses */
  readonly url: string;
}

/** Starts the process and returns at once. It is killed when the test is over. */
export function launch(options: DaemonOptions = {}): Running {
  const key = options.key ?? randomKey();
  const stdin = options.stdin ?? `${key}\n`;
  const [command, ...rest] = [...(options.prefix ?? []), options.launcher ?? launcher, ...(options.args ?? [])];
  if (command === undefined) throw new Error('nothing to start');
  const path = process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin';
  const stdio: StdioOptions = [typeof stdin === 'number' || stdin === 'ignore' ? stdin : 'pipe', 'pipe', options.stderr ?? 'pipe', ...(options.descriptor3 === undefined ? [] : [options.descriptor3])];
  const child = spawn(command, rest, {
    cwd: options.cwd ?? checkout,
    env: { PATH: options.node === undefined ? path : `${dirname(options.node)}:${path}`, ...options.env },
    stdio,
    // In its own process group, so that what a prefix leaves running can be ended with it.
    detached: true,
    ...options.user,
  });
  child.once('error', () => {});
  const running = new Running(child, key);
  if (started.size === 0) process.on('exit', killStarted);
  started.add(running);
  cleanUp(async () => {
    killGroup(running);
    // A descendant that left the group could hold the pipes open. The test is over, so they are not read any more.
    child.stdout?.destroy();
    child.stderr?.destroy();
    await running.waitForExit();
    started.delete(running);
    if (started.size === 0) process.off('exit', killStarted);
  });
  if (child.stdin !== null) {
    // It may end without reading (wrong arguments): EPIPE is its right.
    child.stdin.on('error', () => {});
    if (typeof stdin === 'function') stdin(child.stdin);
    else child.stdin.end(stdin);
  }
  return running;
}

/** Starts the daemon and resolves once it listens; rejects with its stderr if it ends before that. */
export async function startDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const running = launch(options);
  const [, digits] = await running.waitForStderr(/^responses-api-proxy listening on 127\.0\.0\.1:(\d+)\n/m);
  return listeningOn(running, Number(digits));
}

/** `running`, known to listen on `port`: for a daemon whose stderr cannot be read. */
export function listeningOn(running: Running, port: number): Daemon {
  const origin = `http://127.0.0.1:${port}`;
  return Object.assign(running, { port, origin, url: `${origin}/v1/responses` });
}

/** Starts a daemon that is expected to end by itself, and resolves with its exit. */
export function runToExit(options: DaemonOptions = {}): Promise<Exit> {
  return launch(options).waitForExit();
}

/** Those that are not cleaned up yet: vitest may be ended before. */
const started = new Set<Running>();

function killStarted(): void {
  for (const running of started) killGroup(running);
}

function killGroup(running: Running): void {
  // Once it has ended and its pipes are closed, its id may belong to another process.
  if (running.exit !== undefined) return;
  try {
    process.kill(-running.pid, 'SIGKILL');
  } catch {
    // ESRCH: all of the group has ended already.
  }
}
