import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export interface DaemonOptions {
  readonly key: string;
  readonly upstreamUrl: string;
  readonly upstreamCa: string;
  readonly serverInfo: string;
  /** More flags. */
  readonly args?: readonly string[];
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running daemon; it is killed when this process exits. */
export interface Daemon {
  readonly pid: number;
  readonly port: number;
  readonly exited: Promise<Exit>;
  /** What it has written to stderr so far. */
  said(): string;
}

const command = fileURLToPath(new URL('../src/launcher.sh', import.meta.url));
const startTimeoutMs = 10_000;
const pollIntervalMs = 5;

/**
 * Starts the real daemon through the package's command and waits for its server-info.
 * The key goes to its stdin, and its environment holds nothing but PATH.
 * Throws with what the daemon said if it does not come up.
 */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const child = spawn(command, [
    '--http-shutdown',
    '--server-info', options.serverInfo,
    '--upstream-url', options.upstreamUrl,
    '--upstream-ca', options.upstreamCa,
    ...(options.args ?? []),
  ], { env: { PATH: process.env['PATH'] }, stdio: ['pipe', 'ignore', 'pipe'] });

  const kill = (): void => { child.kill('SIGKILL'); };
  process.on('exit', kill);
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => { said += text; });
  child.stdin.on('error', () => {}); // A daemon that is gone does not read its key; its exit tells more.
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      process.off('exit', kill);
      resolve({ code, signal });
    });
  });
  let ended = false;
  exited.then(() => { ended = true; }, () => { ended = true; });

  await once(child, 'spawn');
  child.stdin.end(`${options.key}\n`);
  const deadline = performance.now() + startTimeoutMs;
  while (performance.now() < deadline && !ended) {
    const info = readServerInfo(options.serverInfo);
    if (info !== undefined) return { ...info, exited, said: () => said };
    await sleep(pollIntervalMs);
  }
  kill();
  throw new Error(`the daemon did not start: ${said.trim() || 'it said nothing'}`);
}

/** What the file says, or undefined as long as there is nothing to be read. */
function readServerInfo(file: string): { port: number; pid: number } | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined; // Not there yet.
  }
  if (!text.endsWith('\n')) return undefined;
  const { port, pid } = JSON.parse(text) as { port?: unknown; pid?: unknown };
  if (typeof port !== 'number' || typeof pid !== 'number') throw new Error(`unexpected server-info: ${text}`);
  return { port, pid };
}
