import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cleanUp } from './cleanup.ts';
import { toBytes } from './http-bytes.ts';
import { Changing } from './wait.ts';

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

export const root: Account = { uid: 0, gid: 0 };

/** What a visitor does; see visitor-process.mjs. */
export interface Visit {
  readonly port: number;
  readonly raw: string | Uint8Array;
  readonly host?: string;
  readonly localAddress?: string;
  readonly localPort?: number;
  readonly how?: 'ask' | 'hold' | 'close' | 'reset' | 'any';
  readonly times?: number;
  readonly atOnce?: number;
}

/** What became of one visit. */
export interface Visited {
  readonly status?: number;
  readonly code?: string | null;
  readonly error?: string;
  readonly left?: string;
  readonly connected?: true;
}

const script = readFileSync(new URL('visitor-process.mjs', import.meta.url), 'utf8');

/** A client process of some account. It is killed when the test is over. */
export class Visitor {
  readonly visited: Visited[] = [];
  readonly #child: ChildProcess;
  readonly #changing = new Changing();
  #done = false;
  #unread = '';

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#unread + text).split('\n');
      this.#unread = lines.pop() ?? '';
      for (const line of lines) {
        const event = JSON.parse(line) as Visited | { done: number };
        if ('done' in event) this.#done = true;
        else this.visited.push(event);
      }
      this.#changing.changed();
    });
    child.once('close', () => {
      this.#done = true;
      this.#changing.changed();
    });
  }

  /** Resolves once it has made `count` visits. */
  visits(count: number): Promise<void> {
    return this.until(({ length }) => length >= count, `${count} visits`);
  }

  /** Resolves once `condition` holds of its visits. */
  async until(condition: (visited: readonly Visited[]) => boolean, what: string): Promise<void> {
    await this.#changing.when(() => (condition(this.visited) ? true : undefined), () => `${what}; ${this.visited.length} visits so far`);
  }

  /** Tells it to stop, and resolves with all of its visits once they are over. */
  async finish(): Promise<readonly Visited[]> {
    this.#child.stdin?.end();
    await this.#changing.when(() => (this.#done ? true : undefined), () => `the end of a visitor after ${this.visited.length} visits`);
    return this.visited;
  }

  /** Kills it: the kernel closes what it had open. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#changing.when(() => (this.#child.signalCode === null ? undefined : true), () => 'the end of a killed visitor');
  }
}

/** Starts a visitor. Only root can start one of another account. */
export function visit(account: Account | undefined, { raw, ...order }: Visit): Visitor {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/', env: {}, ...account });
  cleanUp(() => child.kill('SIGKILL'));
  child.stdin.on('error', () => {});
  child.stdin.write(`${JSON.stringify({ ...order, raw: toBytes(raw).toString('latin1') })}\n`);
  return new Visitor(child);
}

/** One request by an account, and what it was answered. */
export async function askAs(account: Account | undefined, order: Visit): Promise<Visited> {
  const [visited] = await visit(account, order).finish();
  if (visited === undefined) throw new Error('the visitor did not visit');
  return visited;
}
