import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cleanUp } from './cleanup.ts';
import type { Random } from './random.ts';

/** An upstream that notes each use of the key that it sees, by the request's own name, and answers in every way that costs or not. */
export class NotingUpstream {
  /** Names of the requests that came, and what their answers cost. */
  readonly seen = new Map<string, number>();
  readonly #random: Random;
  readonly #server = createServer((req, res) => this.#answer(req, res));

  constructor(random: Random) {
    this.#random = random;
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    cleanUp(() => {
      this.#server.closeAllConnections();
      this.#server.close();
    });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/responses`;
  }

  /** Resolves once no connection is left: nothing that a daemon has sent is on its way any more. */
  async drained(): Promise<void> {
    this.#server.closeIdleConnections();
    while ((await new Promise<number>((resolve) => this.#server.getConnections((_, count) => resolve(count)))) > 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #answer(req: IncomingMessage, res: ServerResponse): void {
    const tokens = this.#random.whole(1, 300);
    this.seen.set(String(req.headers['x-name']), tokens);
    req.resume().once('end', () => {
      const usage = `{"usage":{"total_tokens":${tokens}}}`;
      const kind = this.#random.whole(0, 9);
      if (kind === 0) res.writeHead(500).end('{}');
      else if (kind < 5) res.writeHead(200, { 'content-type': 'application/json' }).end(usage);
      else if (kind < 9) {
        res.writeHead(200, { 'content-type': 'text/event-stream' }).write('event: response.created\ndata: {}\n\n');
        setTimeout(() => res.end(`event: response.completed\ndata: {"response":${usage}}\n\n`), this.#random.whole(1, 40));
      } // else never: until its client leaves, or the daemon
    });
  }
}

/** Clients of a daemon, each with one request after the other, until they are stopped or the daemon is gone. */
export class Crowd {
  /** Requests that were asked for and have no whole answer. */
  inFlight = 0;
  #isOver = false;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #clients: Promise<unknown>;

  constructor(url: string, names: () => string, random: Random, clients: number) {
    this.#clients = Promise.all(Array.from({ length: clients }, async () => {
      while (!this.#isOver) {
        this.inFlight++;
        if (!(await this.#ask(url, names(), random.whole(5, 100)))) return;
        this.inFlight--;
      }
    }));
  }

  /** Whether it was answered, or given up after so many ms. */
  #ask(url: string, name: string, patienceMs: number): Promise<boolean> {
    const body = JSON.stringify({ model: name, input: 'hello' });
    return new Promise((resolve) => {
      const req = request(url, { method: 'POST', agent: this.#agent, headers: { 'content-type': 'application/json', 'content-length': body.length, 'x-name': name } }, (res) => {
        res.resume().once('end', () => resolve(true)).once('error', () => resolve(isGivenUp));
      });
      let isGivenUp = false;
      const timer = setTimeout(() => {
        isGivenUp = true;
        req.destroy();
      }, patienceMs);
      req.once('error', () => resolve(isGivenUp)).once('close', () => clearTimeout(timer));
      req.end(body);
    });
  }

  /** Resolves once no client asks for anything any more. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#clients;
    this.#agent.destroy();
  }
}
