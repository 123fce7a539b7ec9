import net from 'node:net';
import { cleanUp } from './cleanup.ts';
import { BodyReader, framingOf, headerValues, noBody, parseHead, toBytes, type HeaderLines } from './http-bytes.ts';
import { Changing, Once } from './wait.ts';

export interface RawRequest {
  /** Default: POST. */
  readonly method?: string;
  /** Default: /v1/responses. */
  readonly target?: string;
  /** Default: HTTP/1.1. */
  readonly version?: string;
  /** Default: 127.0.0.1:PORT; undefined for no Host header at all. */
  readonly host?: string | undefined;
  /** Besides Host and Content-Length. */
  readonly headers?: HeaderLines;
  /** Sent with Content-Length; undefined sends neither. Default: '{}' for POST, else none. */
  readonly body?: string | Uint8Array | undefined;
}

/** The bytes of a request to the daemon on `port`, by default an admitted one. */
export function rawRequest(port: number, request: RawRequest = {}): Buffer {
  const method = request.method ?? 'POST';
  const host = 'host' in request ? request.host : `127.0.0.1:${port}`;
  const body = 'body' in request ? request.body : method === 'POST' ? '{}' : undefined;
  const bytes = body === undefined ? undefined : toBytes(body);
  const lines = [
    `${method} ${request.target ?? '/v1/responses'} ${request.version ?? 'HTTP/1.1'}`,
    ...(host === undefined ? [] : [`Host: ${host}`]),
    ...(request.headers ?? []).map(([name, value]) => `${name}: ${value}`),
    ...(bytes === undefined ? [] : [`Content-Length: ${bytes.length}`]),
  ];
  return Buffer.concat([toBytes(`${lines.join('\r\n')}\r\n\r\n`), bytes ?? Buffer.alloc(0)]);
}

/** A response as received. */
export interface RawResponse {
  readonly status: number;
  readonly statusLine: string;
  readonly headers: HeaderLines;
  /** The head's bytes, as latin1. */
  readonly rawHead: string;
  /** Decoded. */
  readonly body: Buffer;
  /** False if the connection ended before the body did. */
  readonly complete: boolean;
  /** If it is chunked. */
  readonly chunkSizes: readonly number[];
  readonly trailers: readonly string[];
  /** Status lines of the 1xx responses before it. */
  readonly interim: readonly string[];
  /** All values of a header, in order. */
  values(name: string): string[];
  /** The body as UTF-8 text. */
  text(): string;
  json(): unknown;
}

/** How the daemon ended the connection: with FIN, with RST (ECONNRESET), with another error's code; or 'local', the test itself. */
export type ClientEnding = 'end' | 'ECONNRESET' | 'local' | (string & {});

/** A TCP client that sends raw bytes. */
export class RawClient {
  readonly socket: net.Socket;
  /** How the connection ended, if it did. */
  readonly closed: Promise<ClientEnding>;
  readonly #changing = new Changing();
  readonly #ending = new Once<ClientEnding>();
  #pieces: Buffer[] = [];
  #responsesTaken = 0;

  constructor(socket: net.Socket) {
    this.socket = socket;
    this.closed = this.#ending.promise;
    socket.setNoDelay(true);
    socket.on('data', (data: Buffer) => {
      this.#pieces.push(data);
      this.#changing.changed();
    });
    socket.on('end', () => this.#ended('end'));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#ended(error.code ?? error.message));
    socket.on('close', () => this.#ended('local'));
  }

  /** Sends raw bytes (strings are latin1); resolves when the kernel took them, or the connection broke. */
  send(raw: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.socket.write(toBytes(raw), () => resolve());
    });
  }

  /** Ends its sending side and keeps reading. */
  halfClose(): void {
    this.socket.end();
  }

  /** Closes with FIN, both sides. */
  close(): void {
    this.socket.destroy();
  }

  /** Closes with RST. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Stops reading, so that its receive window fills up. */
  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** All bytes so far. */
  get received(): Buffer {
    if (this.#pieces.length > 1) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0] ?? Buffer.alloc(0);
  }

  /** All bytes so far, as latin1. */
  get text(): string {
    return this.received.toString('latin1');
  }

  /** How the connection ended, or undefined while it is open. */
  get ending(): ClientEnding | undefined {
    return this.#ending.value;
  }

  /** Resolves once `text` (or a match) is among the bytes received; rejects if the connection ends without. */
  async waitFor(text: string | RegExp, timeoutMs?: number): Promise<void> {
    const found = (): boolean => (typeof text === 'string' ? this.text.includes(text) : text.test(this.text));
    const look = (): true | undefined => {
      if (found()) return true;
      if (this.ending !== undefined) throw new Error(`the connection ended (${this.ending}) without ${String(text)}:\n${this.text}`);
      return undefined;
    };
    await this.#changing.when(look, () => `${String(text)}; so far:\n${this.text}`, timeoutMs);
  }

  /** Resolves once at least `length` bytes are here. */
  async waitForBytes(length: number, timeoutMs?: number): Promise<void> {
    const count = (): number => this.#pieces.reduce((sum, piece) => sum + piece.length, 0);
    const look = (): true | undefined => {
      if (count() >= length) return true;
      if (this.ending !== undefined) throw new Error(`the connection ended (${this.ending}) after ${count()} bytes`);
      return undefined;
    };
    await this.#changing.when(look, () => `${length} bytes; ${count()} so far`, timeoutMs);
  }

  /** Resolves once `condition` holds; it is checked whenever bytes arrive, and at the end of the connection. */
  async until(condition: () => boolean, what: string, timeoutMs?: number): Promise<void> {
    await this.#changing.when(() => (condition() ? true : undefined), () => `${what}; so far:\n${this.text}`, timeoutMs);
  }

  /** How the connection ended, with a deadline. */
  waitForClose(timeoutMs?: number): Promise<ClientEnding> {
    return this.#changing.when(() => this.ending, () => `the end of the connection; so far:\n${this.text}`, timeoutMs);
  }

  /**
   * Whether the daemon ended the connection with a reset. libuv reports a plain end where data and a reset arrive at once;
   * but after a reset the kernel refuses to send, and after a FIN it does not.
   */
  async wasReset(timeoutMs?: number): Promise<boolean> {
    const ending = await this.waitForClose(timeoutMs);
    if (ending !== 'end') return ending === 'ECONNRESET';
    return new Promise((resolve) => this.socket.write('x', (error) => resolve(error !== null && error !== undefined)));
  }

  /**
   * The next response not taken yet: resolves when it is complete, or cut short by the end of the connection;
   * rejects if the connection ends before its head is complete. `bodiless`: it is the response to a HEAD.
   */
  response(options: { bodiless?: boolean; timeoutMs?: number } = {}): Promise<RawResponse> {
    const index = this.#responsesTaken++;
    const look = (): RawResponse | undefined => {
      const ended = this.ending !== undefined;
      const found = parseResponses(this.received, ended, options.bodiless === true)[index];
      if (found === undefined && ended) throw new Error(`the connection ended (${this.ending}) before response ${index}:\n${this.text}`);
      return found;
    };
    return this.#changing.when(look, () => `response ${index}; so far:\n${this.text}`, options.timeoutMs);
  }

  /** The next `count` responses. */
  responses(count: number, timeoutMs?: number): Promise<RawResponse[]> {
    return Promise.all(Array.from({ length: count }, () => this.response(timeoutMs === undefined ? {} : { timeoutMs })));
  }

  #ended(how: ClientEnding): void {
    this.#ending.resolve(how);
    this.#changing.changed();
  }
}

/** Connects to the daemon on 127.0.0.1. The connection is closed when the test is over. */
export async function connect(port: number, options: { localAddress?: string; host?: string } = {}): Promise<RawClient> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, ...options });
  const client = new RawClient(socket);
  cleanUp(() => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return client;
}

/** One connection, these bytes, the first response; then the connection is closed. */
export async function exchange(port: number, raw: string | Uint8Array, options: { bodiless?: boolean; timeoutMs?: number } = {}): Promise<RawResponse> {
  const client = await connect(port);
  await client.send(raw);
  try {
    return await client.response(options);
  } finally {
    client.close();
  }
}

/** `exchange` with a request made by `rawRequest`, by default an admitted one. */
export function ask(port: number, request: RawRequest = {}): Promise<RawResponse> {
  return exchange(port, rawRequest(port, request), { bodiless: request.method === 'HEAD' });
}

/** The responses in `bytes`, without the 1xx; the last one may be incomplete, if the connection has ended. */
export function parseResponses(bytes: Buffer, ended: boolean, bodiless = false): RawResponse[] {
  const responses: RawResponse[] = [];
  let interim: string[] = [];
  let rest = bytes;
  while (rest.length > 0) {
    const head = parseHead(rest);
    if (head === undefined) break;
    rest = rest.subarray(head.raw.length);
    const status = Number(/^HTTP\/\d\.\d (\d{3})/.exec(head.startLine)?.[1]);
    if (status >= 100 && status < 200) {
      interim.push(head.startLine);
      continue;
    }
    const data: Buffer[] = [];
    const framing = bodiless || status === 204 || status === 304 ? noBody : framingOf(head.headers, { kind: 'until close' });
    const reader = new BodyReader(framing, (piece) => data.push(piece));
    const left = reader.push(rest);
    if (left === undefined && !ended) break;
    const body = Buffer.concat(data);
    responses.push({
      status,
      statusLine: head.startLine,
      headers: head.headers,
      rawHead: head.raw,
      body,
      complete: reader.complete || framing.kind === 'until close',
      chunkSizes: reader.chunkSizes,
      trailers: reader.trailers,
      interim,
      values: (name) => headerValues(head.headers, name),
      text: () => body.toString('utf8'),
      json: (): unknown => JSON.parse(body.toString('utf8')),
    });
    interim = [];
    rest = left ?? Buffer.alloc(0);
  }
  return responses;
}
