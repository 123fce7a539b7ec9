import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { caFile, identity, type IdentityName } from './certificates.ts';
import { cleanUp } from './cleanup.ts';
import { BodyReader, framingOf, headerValues, noBody, parseHead, toBytes, type HeaderLines, type ParsedHead } from './http-bytes.ts';
import { Changing } from './wait.ts';

/** Bodies are kept up to this size; of longer ones only the length and the hash. */
const defaultKeepBytes = 8 * 1024 * 1024;

export interface UpstreamOptions {
  /** Its TLS identity, or false for cleartext. Default: 'good'. */
  readonly tls?: IdentityName | false;
  /** More options of its TLS context, such as maxVersion or ciphers. */
  readonly secureContext?: tls.SecureContextOptions;
  /** The protocols it offers by ALPN. Default: it does not know ALPN. */
  readonly alpn?: readonly string[];
  /** The address it listens on. Default: 127.0.0.1. */
  readonly listenOn?: string;
  /** Default: an ephemeral port. */
  readonly port?: number;
  /** The path and query of `url`. Default: /v1/responses. */
  readonly path?: string;
  /** See defaultKeepBytes. */
  readonly keepBytes?: number;
  /** See Upstream.answerWith. */
  readonly answer?: Answer;
  /** Called with each request as soon as its head is here, before its body is read. */
  readonly onHead?: (request: UpstreamRequest) => void;
}

/** Raw bytes that answer each request as soon as it is complete, or a function that is called then and may return them. */
export type Answer = string | Uint8Array | ((request: UpstreamRequest) => string | Uint8Array | void);

/**
 * A raw answer with Content-Length. `headers` are raw lines' names and values.
 */
export function answer(status: number, body: string | Uint8Array = '', headers: HeaderLines = [['content-type', 'application/json']]): Buffer {
  const bytes = toBytes(body);
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status} Reason\r\n${lines}content-length: ${bytes.length}\r\n\r\n`, 'latin1'), bytes]);
}

/** The head of a chunked answer; follow it with `chunk(...)`s. */
export function streamHead(status = 200, headers: HeaderLines = [['content-type', 'text/event-stream']]): string {
  return `HTTP/1.1 ${status} Reason\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}transfer-encoding: chunked\r\n\r\n`;
}

/** How a connection ended: by the peer's FIN, its reset (or another error's code), or the test itself. */
export type Ending = 'end' | 'local' | (string & {});

/** One request as it arrived: its head is complete, its body may not be. */
export class UpstreamRequest {
  readonly connection: UpstreamConnection;
  /** The first line: `POST /v1/responses HTTP/1.1`. */
  readonly startLine: string;
  readonly method: string;
  readonly target: string;
  readonly headers: HeaderLines;
  /** The head's bytes with the empty line, as latin1. */
  readonly rawHead: string;
  /** Milliseconds (performance.now()) when the head was complete. */
  readonly arrivedAt = performance.now();
  readonly #changing: Changing;
  readonly #reader: BodyReader;
  readonly #hash = createHash('sha256');
  readonly #keepBytes: number;
  #kept: Buffer[] = [];
  #length = 0;

  constructor(connection: UpstreamConnection, head: ParsedHead, keepBytes: number, changing: Changing) {
    this.connection = connection;
    this.startLine = head.startLine;
    const [method = '', target = ''] = head.startLine.split(' ');
    this.method = method;
    this.target = target;
    this.headers = head.headers;
    this.rawHead = head.raw;
    this.#keepBytes = keepBytes;
    this.#changing = changing;
    this.#reader = new BodyReader(framingOf(head.headers, noBody), (data) => {
      this.#length += data.length;
      this.#hash.update(data);
      if (this.#length <= keepBytes) this.#kept.push(data);
    });
  }

  /** The values of a header, in order. */
  values(name: string): string[] {
    return headerValues(this.headers, name);
  }

  /** The body's decoded bytes so far. */
  get body(): Buffer {
    if (this.#length > this.#keepBytes) throw new Error(`only ${this.#keepBytes} bytes of a body are kept; use bodyLength and bodyHash()`);
    return Buffer.concat(this.#kept);
  }

  get bodyLength(): number {
    return this.#length;
  }

  /** sha256 of the body so far, in hex. */
  bodyHash(): string {
    return this.#hash.copy().digest('hex');
  }

  get chunkSizes(): readonly number[] {
    return this.#reader.chunkSizes;
  }

  get trailers(): readonly string[] {
    return this.#reader.trailers;
  }

  /** Whether the body arrived whole. */
  get isComplete(): boolean {
    return this.#reader.complete;
  }

  /** Resolves with the request when its body is whole; rejects when the connection ends before. */
  complete(timeoutMs?: number): Promise<this> {
    return this.#waitFor(() => this.isComplete, 'a whole body', timeoutMs);
  }

  /** Resolves when at least `length` bytes of body are here. */
  bodyReaches(length: number, timeoutMs?: number): Promise<this> {
    return this.#waitFor(() => this.#length >= length, `${length} bytes of body`, timeoutMs);
  }

  /** Sends raw bytes on its connection; resolves when the kernel took them. */
  reply(raw: string | Uint8Array): Promise<void> {
    return this.connection.send(raw);
  }

  /** Used by the connection: takes bytes, returns what is left after the end of the body. */
  push(bytes: Buffer): Buffer | undefined {
    return this.#reader.push(bytes);
  }

  #waitFor(condition: () => boolean, what: string, timeoutMs?: number): Promise<this> {
    const look = (): this | undefined => {
      if (condition()) return this;
      if (this.connection.ending !== undefined) throw new Error(`the connection ended (${this.connection.ending}) before ${what}, after ${this.#length} bytes`);
      return undefined;
    };
    return this.#changing.when(look, () => `${what}; ${this.#length} bytes so far`, timeoutMs);
  }
}

/** One accepted TCP connection. */
export class UpstreamConnection {
  /** Counting from 0, in the order of acceptance. */
  readonly index: number;
  readonly requests: UpstreamRequest[] = [];
  /** The TCP socket below; the one to reset. */
  readonly tcp: net.Socket;
  /** How many bytes of HTTP (after TLS) arrived. */
  receivedBytes = 0;
  /** Whether its TLS session was resumed; undefined before the handshake is done, or without TLS. */
  sessionReused: boolean | undefined;
  /** The protocol and name the client asked for, after the handshake. */
  tls: { readonly version: string | null; readonly servername: string | false | undefined; readonly alpn: string | false | null } | undefined;
  /** Why the handshake failed, if it did. */
  handshakeError: string | undefined;
  /** How it ended, if it did. 'end' as soon as the peer's FIN was read. */
  ending: Ending | undefined;
  readonly #changing: Changing;
  readonly #onRequest: (head: ParsedHead, connection: UpstreamConnection) => UpstreamRequest;
  readonly #onComplete: (request: UpstreamRequest) => void;
  #stream: net.Socket | undefined;
  #unread: Buffer = Buffer.alloc(0);
  #current: UpstreamRequest | undefined;
  #paused = false;

  constructor(
    index: number,
    tcp: net.Socket,
    changing: Changing,
    onRequest: (head: ParsedHead, connection: UpstreamConnection) => UpstreamRequest,
    onComplete: (request: UpstreamRequest) => void,
  ) {
    this.index = index;
    this.tcp = tcp;
    this.#changing = changing;
    this.#onRequest = onRequest;
    this.#onComplete = onComplete;
    tcp.on('error', (error: NodeJS.ErrnoException) => this.#ended(error.code ?? error.message));
    tcp.on('close', () => this.#ended('local'));
  }

  /** Used by the upstream: does the server's side of the handshake, then carries HTTP over it. */
  secure(options: ServerTls): void {
    const stream = new tls.TLSSocket(this.tcp, { isServer: true, ...options });
    const fail = (reason: Ending): void => {
      if (this.tls !== undefined) return;
      this.handshakeError = reason;
      this.#ended(reason);
      stream.destroy();
    };
    stream.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
    stream.on('end', () => fail('end'));
    stream.once('secure', () => {
      this.sessionReused = stream.isSessionReused();
      this.tls = { version: stream.getProtocol(), servername: servernameOf(stream), alpn: stream.alpnProtocol };
      this.attach(stream);
    });
    // Without a reader the end of a connection that never becomes secure would go unnoticed.
    if (!this.#paused) stream.resume();
  }

  /** Used by the upstream: `stream` carries HTTP now (the TCP socket itself, or TLS on it). */
  attach(stream: net.Socket): void {
    this.#stream = stream;
    stream.setNoDelay(true);
    stream.on('data', (data: Buffer) => this.#read(data));
    stream.on('end', () => this.#ended('end'));
    stream.on('error', (error: NodeJS.ErrnoException) => this.#ended(error.code ?? error.message));
    stream.on('close', () => this.#ended('local'));
    if (this.#paused) stream.pause();
    this.#changing.changed();
  }

  /** Sends raw bytes (strings are latin1); resolves when the kernel took them, or the connection broke. */
  send(raw: string | Uint8Array): Promise<void> {
    const stream = this.#stream;
    if (stream === undefined) throw new Error('the handshake is not done');
    return new Promise((resolve) => {
      stream.write(toBytes(raw), () => resolve());
    });
  }

  /** Ends its sending side (TLS close_notify and FIN) and keeps reading. */
  halfClose(): void {
    this.#stream?.end();
  }

  /** Closes with FIN, both sides. */
  close(): void {
    this.#stream?.destroy();
    this.tcp.destroy();
  }

  /** Closes with RST. */
  reset(): void {
    this.tcp.resetAndDestroy();
  }

  /** Stops reading, so that its receive window fills up. */
  pause(): void {
    this.#paused = true;
    this.#stream?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#stream?.resume();
  }

  /** Resolves with how it ended. */
  closed(timeoutMs?: number): Promise<Ending> {
    return this.#changing.when(() => this.ending, () => `the end of upstream connection ${this.index}`, timeoutMs);
  }

  #read(data: Buffer): void {
    this.receivedBytes += data.length;
    let rest: Buffer | undefined = data;
    while (rest !== undefined && rest.length > 0) {
      if (this.#current === undefined) rest = this.#readHead(rest);
      else rest = this.#readBody(this.#current, rest);
    }
    this.#changing.changed();
  }

  #readHead(bytes: Buffer): Buffer | undefined {
    this.#unread = this.#unread.length === 0 ? bytes : Buffer.concat([this.#unread, bytes]);
    const head = parseHead(this.#unread);
    if (head === undefined) return undefined;
    const rest = this.#unread.subarray(head.raw.length);
    this.#unread = Buffer.alloc(0);
    const request = this.#onRequest(head, this);
    this.requests.push(request);
    return this.#readBody(request, rest);
  }

  #readBody(request: UpstreamRequest, bytes: Buffer): Buffer | undefined {
    this.#current = request;
    const rest = request.push(bytes);
    if (rest === undefined) return undefined;
    this.#current = undefined;
    this.#onComplete(request);
    return rest;
  }

  #ended(how: Ending): void {
    if (this.ending !== undefined) return;
    this.ending = how;
    this.#changing.changed();
  }
}

/**
 * An upstream that sends raw bytes, valid or not, on accepted sockets.
 * Without an `answer` it does not respond by itself: take requests with `nextRequest()` and reply.
 */
export class Upstream {
  readonly port: number;
  /** For --upstream-url. */
  readonly url: string;
  /** --upstream-url and --upstream-ca for this upstream. */
  readonly args: readonly string[];
  readonly connections: UpstreamConnection[] = [];
  /** All requests whose head arrived, over all connections. */
  readonly requests: UpstreamRequest[] = [];
  readonly #changing = new Changing();
  readonly #server: net.Server;
  readonly #keepBytes: number;
  readonly #onHead: ((request: UpstreamRequest) => void) | undefined;
  #answer: Answer | undefined;
  #requestsTaken = 0;
  #connectionsTaken = 0;

  constructor(server: net.Server, options: UpstreamOptions) {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the upstream does not listen');
    const secure = options.tls !== false;
    this.#server = server;
    this.#keepBytes = options.keepBytes ?? defaultKeepBytes;
    this.#answer = options.answer;
    this.#onHead = options.onHead;
    this.port = address.port;
    this.url = `${secure ? 'https' : 'http'}://localhost:${address.port}${options.path ?? '/v1/responses'}`;
    this.args = ['--upstream-url', this.url, ...(secure ? ['--upstream-ca', caFile()] : [])];
    const serverTls = secure ? serverTlsOf(options) : undefined;
    server.on('connection', (tcp) => this.#accept(tcp, serverTls));
  }

  /** From now on each complete request is answered with this. */
  answerWith(answer: Answer): void {
    this.#answer = answer;
  }

  /** The oldest request not returned yet, as soon as its head is here. Await `complete()` for its body. */
  async nextRequest(timeoutMs?: number): Promise<UpstreamRequest> {
    const index = this.#requestsTaken++;
    return this.#changing.when(() => this.requests[index], () => `request ${index} at the upstream; ${this.#summary()}`, timeoutMs);
  }

  /** The oldest connection not returned yet, as soon as it is accepted (its handshake may still run or fail). */
  async nextConnection(timeoutMs?: number): Promise<UpstreamConnection> {
    const index = this.#connectionsTaken++;
    return this.#changing.when(() => this.connections[index], () => `connection ${index} at the upstream; ${this.#summary()}`, timeoutMs);
  }

  /** Resolves when `condition` holds; it is looked at after each event on any connection. */
  async until(condition: () => boolean, what: string, timeoutMs?: number): Promise<void> {
    await this.#changing.when(() => (condition() ? true : undefined), () => `${what}; ${this.#summary()}`, timeoutMs);
  }

  /** Connections that have not ended. */
  get openConnections(): UpstreamConnection[] {
    return this.connections.filter(({ ending }) => ending === undefined);
  }

  /** How many TLS handshakes resumed a session. */
  get sessionsReused(): number {
    return this.connections.filter(({ sessionReused }) => sessionReused === true).length;
  }

  /** All bytes of HTTP that ever arrived. */
  get receivedBytes(): number {
    return this.connections.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
  }

  /** Stops listening and closes all connections. Happens by itself when the test is over. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const connection of this.connections) connection.close();
    await closed;
  }

  #accept(tcp: net.Socket, secure: ServerTls | undefined): void {
    const connection = new UpstreamConnection(
      this.connections.length,
      tcp,
      this.#changing,
      (head) => {
        const request = new UpstreamRequest(connection, head, this.#keepBytes, this.#changing);
        this.requests.push(request);
        this.#onHead?.(request);
        return request;
      },
      (request) => {
        const raw = typeof this.#answer === 'function' ? this.#answer(request) : this.#answer;
        if (raw !== undefined) void request.reply(raw);
      },
    );
    this.connections.push(connection);
    if (secure === undefined) connection.attach(tcp);
    else connection.secure(secure);
    this.#changing.changed();
  }

  #summary(): string {
    const connections = this.connections.map(({ index, requests, receivedBytes, ending, handshakeError }) =>
      `#${index}: ${requests.length} requests, ${receivedBytes} bytes, ${handshakeError ?? ending ?? 'open'}`);
    return connections.length === 0 ? 'no connection was made' : connections.join('; ');
  }
}

/** Starts an upstream; it ends with the test (or the file, when started in beforeAll). */
export async function startUpstream(options: UpstreamOptions = {}): Promise<Upstream> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, options.listenOn ?? '127.0.0.1', resolve);
  });
  const upstream = new Upstream(server, options);
  cleanUp(() => upstream.close());
  return upstream;
}

/** A port of 127.0.0.1 on which nothing listens (a moment ago). */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** What the server's side of a TLS socket needs. One context for all connections, or no session could be resumed. */
interface ServerTls {
  readonly secureContext: tls.SecureContext;
  readonly ALPNProtocols?: string[];
}

function serverTlsOf({ tls: name, secureContext, alpn }: UpstreamOptions): ServerTls {
  const { cert, key } = identity(name === undefined || name === false ? 'good' : name);
  const context = tls.createSecureContext({ cert: readFileSync(cert), key: readFileSync(key), ...secureContext });
  return { secureContext: context, ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }) };
}

function servernameOf(stream: tls.TLSSocket): string | false | undefined {
  // Set on the server's side, but missing in @types/node.
  const name: unknown = Reflect.get(stream, 'servername');
  return typeof name === 'string' || name === false ? name : undefined;
}
