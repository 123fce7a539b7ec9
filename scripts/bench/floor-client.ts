// An undici TLS client alone, as a floor: posts a body over and over on some connections. Prints one line of JSON.
//
//   floor-client.ts PORT CA_FILE TOKEN CONNECTIONS BODY_BYTES MILLISECONDS
import { readFileSync } from 'node:fs';
import { Pool } from 'undici';
import type { Dispatcher } from 'undici';

const [port = '', caFile = '', token = '', connections = '', bodyBytes = '', milliseconds = ''] = process.argv.slice(2);
const warmUpMs = 300;
// The bytes that wire.h describes; the upstream compares them.
const body = Buffer.from(Array.from({ length: Number(bodyBytes) }, (_, at) => (at * 167 + (at >> 8) * 13) & 0xff));
const headers = ['Authorization', `Bearer ${token}`, 'Content-Type', 'application/json'];
const pool = new Pool(`https://localhost:${port}`, { connect: { ca: readFileSync(caFile) }, pipelining: 1, connections: Number(connections) });

let latenciesMs: number[] = [];
let running = true;

class Post implements Dispatcher.DispatchHandler {
  readonly #startedAt = performance.now();
  #statusCode = 0;

  onConnect(): void {}

  onHeaders(statusCode: number): boolean {
    this.#statusCode = statusCode;
    return true;
  }

  onData(): boolean {
    return true;
  }

  onComplete(): void {
    if (this.#statusCode !== 200) throw new Error(`status ${this.#statusCode}`);
    latenciesMs.push(performance.now() - this.#startedAt);
    if (running) post();
  }

  onError(error: Error): void {
    throw error;
  }
}

function post(): void {
  pool.dispatch({ method: 'POST', path: '/v1/responses', headers, body }, new Post());
}

for (let i = 0; i < Number(connections); i++) post();
setTimeout(() => {
  latenciesMs = [];
  const startedAt = performance.now();
  const before = process.cpuUsage();
  setTimeout(() => {
    running = false;
    const { user, system } = process.cpuUsage(before);
    const seconds = (performance.now() - startedAt) / 1000;
    const sorted = latenciesMs.toSorted((a, b) => a - b);
    const requests = sorted.length;
    const quantile = (part: number): number => sorted[Math.floor((requests - 1) * part)] ?? 0;
    console.log(JSON.stringify({ requests, perSecond: requests / seconds, cpuUs: (user + system) / requests, p50Ms: quantile(0.5), p99Ms: quantile(0.99) }));
    process.exit();
  }, Number(milliseconds));
}, warmUpMs);
