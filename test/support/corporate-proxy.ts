import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Identity } from '../../scripts/certificates.ts';
import { cleanUp } from './cleanup.ts';
import { Changing } from './wait.ts';

const program = fileURLToPath(new URL('corporate-proxy-process.mjs', import.meta.url));

export interface CorporateProxyOptions {
  /** What it does with a CONNECT; see corporate-proxy-process.mjs. Default: tunnel. */
  readonly mode?: 'tunnel' | 'hang' | 'cut' | 'refuse' | 'cut tunnel';
  /** `user:password`; without, it asks for none. */
  readonly credentials?: string;
  /** Raw bytes that answer a CONNECT. */
  readonly answer?: string;
  /** It speaks TLS, as localhost. */
  readonly identity?: Identity;
  /** Ports of 127.0.0.1 for authorities that do not exist. */
  readonly map?: Readonly<Record<string, number>>;
}

/** A line of what it tells. */
interface Told {
  readonly port?: number;
  readonly request?: string;
  readonly isResumed?: boolean;
  readonly closed?: boolean;
  readonly through?: string;
}

/** A corporate proxy in its own process. */
export class CorporateProxy {
  readonly port: number;
  /** http://127.0.0.1:PORT, or https://localhost:PORT */
  readonly url: string;
  readonly #changing: Changing;
  readonly #told: readonly Told[];

  constructor(port: number, isTls: boolean, told: readonly Told[], changing: Changing) {
    this.port = port;
    this.url = isTls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`;
    this.#told = told;
    this.#changing = changing;
  }

  /** Raw heads of the requests it got. */
  get requests(): string[] {
    return this.#told.flatMap(({ request }) => (request === undefined ? [] : [request]));
  }

  /** How many of the requests came on a TLS session that was resumed. */
  get resumed(): number {
    return this.#told.filter(({ isResumed }) => isResumed === true).length;
  }

  /** How many connections to it have ended. */
  get closed(): number {
    return this.#told.filter(({ closed }) => closed === true).length;
  }

  /** What clients sent through the tunnels that are closed, as latin1 (its last 64 KiB each). */
  get through(): string {
    return this.#told.map(({ through = '' }) => Buffer.from(through, 'base64').toString('latin1')).join('');
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    await this.#changing.when(() => (condition() ? true : undefined), () => `${what}; the proxy had ${JSON.stringify(this.#told)}`);
  }
}

export async function startCorporateProxy(options: CorporateProxyOptions = {}): Promise<CorporateProxy> {
  const child = spawn(process.execPath, [program, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  cleanUp(() => {
    child.kill('SIGKILL');
    return ended;
  });
  const told: Told[] = [];
  const changing = new Changing();
  createInterface({ input: child.stdout }).on('line', (line) => {
    told.push(JSON.parse(line) as Told);
    changing.changed();
  });
  const port = await changing.when(() => told[0]?.port, () => 'the proxy to listen');
  return new CorporateProxy(port, options.identity !== undefined, told, changing);
}
