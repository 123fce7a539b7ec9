// node:http and undici joined in the shortest way: what every daemon made of them costs at least. Prints its port.
//
//   relay.ts UPSTREAM_PORT CA_FILE TOKEN
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Pool } from 'undici';
import type { Dispatcher } from 'undici';

const [upstreamPort = '', caFile = '', token = ''] = process.argv.slice(2);
const pool = new Pool(`https://localhost:${upstreamPort}`, { connect: { ca: readFileSync(caFile) }, pipelining: 1, bodyTimeout: 0, headersTimeout: 0 });

class Relay implements Dispatcher.DispatchHandler {
  readonly #res: ServerResponse;

  constructor(res: ServerResponse) {
    this.#res = res;
  }

  onConnect(): void {}

  onHeaders(statusCode: number, rawHeaders: Buffer[], resume: () => void): boolean {
    const fields = rawHeaders.map((bytes) => bytes.toString('latin1'));
    this.#res.sendDate = false;
    this.#res.writeHead(statusCode, fields.filter((_, i) => !/^(transfer-encoding|connection|keep-alive)$/i.test(fields[i & ~1] ?? '')));
    this.#res.on('drain', resume);
    return this.#res.write('');
  }

  onData(chunk: Buffer): boolean {
    return this.#res.write(chunk);
  }

  onComplete(): void {
    this.#res.end();
  }

  onError(): void {
    this.#res.destroy();
  }
}

function forward(req: IncomingMessage, res: ServerResponse): void {
  if (req.readableLength === 0 && !req.complete) {
    req.once('readable', () => { forward(req, res); });
    return;
  }
  const { host: _host, connection: _connection, ...headers } = req.headers;
  // undici's types do not know that a body may be an async iterable; its documentation does.
  const body = (req.complete ? req.read() : req) as Uint8Array | null;
  pool.dispatch({ method: 'POST', path: '/v1/responses', headers: { ...headers, authorization: `Bearer ${token}` }, body }, new Relay(res));
}

const server = createServer({ keepAliveTimeout: 0, noDelay: true }, forward).listen(0, '127.0.0.1', () => {
  console.log((server.address() as AddressInfo).port);
});
