import { spawn } from 'node:child_process';
import type { StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** A server that the bench has started; it is killed when this process exits. */
export interface Service {
  readonly pid: number;
  readonly port: number;
  /** From the start of its command to its first sign of readiness. */
  readonly startMs: number;
  stop(): Promise<void>;
}

export interface ServiceCommand {
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** What it reads on stdin; nothing by default. */
  readonly input?: string;
  /** Its port once it is ready, or undefined. `said` is what it wrote to stdout so far. */
  ready(said: string): number | undefined | Promise<number | undefined>;
}

const startTimeoutMs = 10_000;
const stopTimeoutMs = 2_000;
const pollIntervalMs = 1;

/** Starts a server and waits until it is ready. Throws with what it said if it does not come up. */
export async function startService(command: ServiceCommand): Promise<Service> {
  const startedAt = performance.now();
  const stdio: StdioOptions = ['pipe', 'pipe', 'pipe'];
  // A process group of its own: nginx has workers that would outlive a killed master.
  const child = spawn(command.file, command.args, { env: command.env, stdio, detached: true });
  const kill = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // The group is already gone.
    }
  };
  process.on('exit', kill);
  let said = '';
  let complained = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => { said += text; });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => { complained = (complained + text).slice(-2_000); });
  child.stdin?.on('error', () => {}); // A server that is gone does not read; its exit tells more.
  let ended = false;
  const closed = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => {
      ended = true;
      resolve();
    });
  });
  await Promise.race([once(child, 'spawn'), closed]);
  child.stdin?.end(command.input ?? '');
  const { pid } = child;
  if (pid === undefined) throw new Error(`${command.name} has no pid`);

  while (performance.now() - startedAt < startTimeoutMs && !ended) {
    const port = await command.ready(said);
    if (port !== undefined) {
      const startMs = performance.now() - startedAt;
      return {
        pid, port, startMs,
        async stop() {
          if (ended) return;
          child.kill('SIGTERM');
          const timer = setTimeout(kill, stopTimeoutMs);
          await closed;
          clearTimeout(timer);
          kill();
          process.off('exit', kill);
        },
      };
    }
    await sleep(pollIntervalMs);
  }
  kill();
  throw new Error(`${command.name} did not start: ${complained.trim() || 'it said nothing'}`);
}

/** Ready when the port takes connections. */
export function whenListening(port: number): () => Promise<number | undefined> {
  return () => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => { socket.destroy(); resolve(port); });
    socket.once('error', () => { resolve(undefined); });
  });
}

/** Ready when the server-info is written. */
export function whenInfoIsThere(file: string): () => number | undefined {
  return () => {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch {
      return undefined; // Not there yet.
    }
    // codex ends the line, and so do we; without the end it is not all there yet.
    return text.endsWith('}\n') ? (JSON.parse(text) as { port: number }).port : undefined;
  };
}

/** A port that nobody listens on; somebody may come first, but hardly on a machine that is measured. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Fills the `%NAME%`s of a configuration that lies beside this file, and writes it where it is to be used. */
export function writeConfiguration(template: string, target: string, values: Readonly<Record<string, string | number>>): void {
  const text = readFileSync(fileURLToPath(new URL(template, import.meta.url)), 'utf8');
  writeFileSync(target, text.replace(/%([A-Z_]+)%/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${template} wants a value for ${name}`);
    return String(value);
  }));
}
