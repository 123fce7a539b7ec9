import { readFileSync } from 'node:fs';
import net from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import tls from 'node:tls';
import { caFile, identity } from './certificates.ts';
import { cleanUp } from './cleanup.ts';
import { BodyReader, framingOf, headerValues, noBody, parseHead } from './http-bytes.ts';
import { contentType, newSessionTicket, onRecords, RecordCipher } from './record-upstream.ts';

/** How the daemon reaches the upstream. `tunnel`: over TLS 1.3 through a CONNECT, which the upstream answers by itself. */
export type Link = 'clear' | 'tls12' | 'tls13' | 'tunnel';

/** Bodies of this length do not fit into the kernels of both ends, so that some of them stays in the daemon while nothing is read. */
export const largeBytes = 5 * 1024 * 1024;

/** As much of them is certain not to fit. */
const certainlyStuckBytes = 4.5 * 1024 * 1024;

const ticket = newSessionTicket(400);
const halves = [ticket.subarray(0, 200), ticket.subarray(200)] as const;

/** A request as it arrived. */
export interface Seen {
  readonly tag: string;
  readonly connection: ModelConnection;
  isWhole: boolean;
  isAnswered: boolean;
}

/** A final answer that the upstream has begun to send. */
export interface Message {
  readonly id: number;
  /** The request that it is an answer to; undefined for a surplus one. */
  readonly tag: string | undefined;
  readonly connection: ModelConnection;
  /** When all of it was in the daemon's kernel. */
  arrivedAt: number;
  /** Since when nothing that is written to its connection can have left the daemon. */
  readonly stuckSince: number | undefined;
  /** The connection has had an answer too many, this one or one before. */
  readonly isBehindSurplus: boolean;
  readonly bodyBytes: number;
  readonly endsWithConnection: boolean;
}

/** What the connections of a run share. */
export interface Shared {
  /** Counts steps and events, so that one can be said to have come before another. */
  now(): number;
  /** To be called with each event: something has moved. */
  moved(): void;
  /** What must not happen has happened. */
  fault(what: string): void;
  readonly key: string;
  /** All requests and answers of a schedule. */
  readonly seen: Seen[];
  readonly messages: Message[];
  /** The next request is read as far as its head. */
  isDeaf: boolean;
  /** Requests are answered as they come. */
  isPlain: boolean;
}

/** One connection from the daemon. All that is sent on it passes a gate, which can hold back what follows a number of bytes. */
export class ModelConnection {
  readonly #tcp: net.Socket;
  readonly #shared: Shared;
  /** Takes HTTP. */
  #stream: Duplex | undefined;
  #secured: tls.TLSSocket | undefined;
  #opens: RecordCipher | undefined;
  #seals: RecordCipher | undefined;
  #held: Buffer[] | undefined;
  /** Messages of which some may still be here. */
  #leaving: Message[] = [];
  #passesBytes = 0;
  #rest: Buffer | undefined;
  #unparsed: Buffer = Buffer.alloc(0);
  #reader: BodyReader | undefined;
  #current: Seen | undefined;
  #expectedBytes = 0;
  #bodyBytes = 0;
  isBetweenHalves = false;
  #stuckSince: number | undefined;
  #stuckWhenReleased: number | undefined;
  #hasSurplus = false;
  /** What was sent has come to the gate. */
  written: Promise<void> = Promise.resolve();
  /** It has ended, or we have ended it. */
  isOver = false;
  /** When it had its last request or answer. */
  usedAt = 0;
  /** Nothing is read from it. */
  isStopped = false;
  /** What was sent on it is not what a plain upstream sends: it can serve no further request. */
  isOdd = false;

  constructor(tcp: net.Socket, link: Link, context: tls.SecureContext | undefined, shared: Shared) {
    this.#tcp = tcp;
    this.#shared = shared;
    tcp.on('error', () => this.#ended()).on('close', () => this.#ended()).on('end', () => this.#ended());
    if (context === undefined) this.#attach(tcp);
    else if (link === 'tunnel') tcp.once('data', () => {
      tcp.write('HTTP/1.1 200 OK\r\n\r\n');
      this.#secure(context, true);
    });
    else this.#secure(context, link === 'tls13');
  }

  get isReady(): boolean {
    return this.#stream !== undefined && !this.isOver;
  }

  /** Its TCP connection has ended too, where it may have been TLS alone. */
  get isGone(): boolean {
    return this.#tcp.destroyed || this.#tcp.writableEnded;
  }

  get hasRecords(): boolean {
    return this.#seals !== undefined;
  }

  /** The oldest request on it that has no answer yet. */
  get unanswered(): Seen | undefined {
    return this.#shared.seen.find(({ connection, isAnswered }) => connection === this && !isAnswered);
  }

  /** @param share how much of it goes out now; the rest goes with `sendRest`, or before the next answer */
  answer(tag: string | undefined, kind: AnswerKind, share = 1): void {
    this.sendRest();
    if (tag === undefined) this.#hasSurplus = true;
    const id = this.#shared.now();
    const bytes = answerBytes(id, kind);
    const { bodyBytes, endsWithConnection } = kinds[kind];
    const message: Message = { id, tag, connection: this, arrivedAt: Infinity, stuckSince: this.#stuckSince, isBehindSurplus: this.#hasSurplus, bodyBytes, endsWithConnection };
    this.#shared.messages.push(message);
    this.#leaving.push(message);
    this.usedAt = this.#shared.now();
    if (endsWithConnection || kinds[kind].fields.startsWith('Connection')) this.isOdd = true;
    const now = Math.max(1, Math.floor(bytes.length * share));
    if (now < bytes.length) this.#rest = bytes.subarray(now);
    this.send(bytes.subarray(0, now));
  }

  /** What is no answer. */
  sendOdd(bytes: string): void {
    this.sendRest();
    this.#hasSurplus = true;
    this.isOdd = true;
    this.send(Buffer.from(bytes, 'latin1'));
  }

  sendRest(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest !== undefined) this.send(rest);
  }

  send(bytes: Buffer): void {
    if (!this.isReady) return;
    if (this.#secured === undefined) this.#pass(bytes);
    else {
      const secured = this.#secured;
      this.written = new Promise((resolve) => secured.write(bytes, () => resolve(this.#left())));
    }
  }

  /** Whatever was sent may be in the kernel by now. */
  #left(): void {
    if (this.#rest !== undefined || this.#held !== undefined || this.#tcp.writableLength > 0) return;
    for (const message of this.#leaving.splice(0)) message.arrivedAt = this.#shared.now();
  }

  /** Half of a session ticket: the first, or the second behind a first. */
  sendHalf(): void {
    const half = halves[this.isBetweenHalves ? 1 : 0];
    this.#sendRecord(contentType.handshake, half);
    this.isBetweenHalves = !this.isBetweenHalves;
    this.#stuck(this.isBetweenHalves ? Infinity : undefined);
  }

  /** What was sent has been read: only now is it certain that half a ticket keeps the daemon from writing. */
  settled(): void {
    if (this.#stuckSince === Infinity) this.#stuckSince = this.#shared.now();
  }

  /** @param requested whether the daemon is to answer with one (RFC 8446 section 4.6.3) */
  updateKey(requested: boolean): void {
    if (this.isBetweenHalves) this.isOdd = true;
    this.#sendRecord(contentType.handshake, Buffer.from([24, 0, 0, 1, requested ? 1 : 0]));
    this.#seals = this.#seals?.next();
  }

  /** Passes so many bytes more, and holds what follows. */
  hold(bytes: number): void {
    this.#held ??= [];
    this.#passesBytes = bytes;
    this.#stuckWhenReleased = this.#stuckSince;
  }

  /** Sends what is held, in one piece. */
  release(): void {
    const held = this.#held ?? [];
    if (this.#held !== undefined) this.#stuckSince = this.#stuckWhenReleased;
    this.#held = undefined;
    if (held.length > 0 && !this.#tcp.destroyed) this.#write(Buffer.concat(held));
  }

  stop(): void {
    this.#tcp.pause();
    this.isOdd = true;
    this.isStopped = true;
    if (this.#current !== undefined && this.#expectedBytes - this.#bodyBytes > certainlyStuckBytes) this.#stuck(this.#shared.now());
  }

  read(): void {
    this.#tcp.resume();
    this.isStopped = false;
    if (!this.isBetweenHalves) this.#stuck(undefined);
  }

  end(how: 'FIN' | 'close_notify' | 'RST'): void {
    this.isOdd = true;
    if (how === 'RST') return void this.#tcp.resetAndDestroy();
    if (how === 'close_notify' && this.#secured !== undefined) this.#secured.end();
    this.release();
    if (how === 'FIN' || this.#secured === undefined) this.#tcp.end();
  }

  destroy(): void {
    this.#tcp.resetAndDestroy();
    this.#secured?.destroy();
  }

  #stuck(since: number | undefined): void {
    if (this.#held === undefined) this.#stuckSince = since;
    else this.#stuckWhenReleased = since;
  }

  #sendRecord(type: number, content: Uint8Array): void {
    if (this.#seals !== undefined) this.#pass(this.#seals.seal(type, content));
  }

  #pass(bytes: Buffer): void {
    if (this.#tcp.destroyed || this.#tcp.writableEnded) return;
    const now = this.#held === undefined ? bytes : bytes.subarray(0, this.#held.length > 0 ? 0 : this.#passesBytes);
    this.#passesBytes -= now.length;
    if (now.length > 0) this.#write(now);
    if (now.length < bytes.length) this.#held?.push(bytes.subarray(now.length));
  }

  #write(bytes: Buffer): void {
    this.#tcp.write(bytes, () => this.#left());
  }

  #secure(context: tls.SecureContext, knowsRecords: boolean): void {
    const [near, far] = duplexPair();
    const secured = new tls.TLSSocket(near, { isServer: true, secureContext: context });
    this.#secured = secured;
    secured.on('error', () => this.#ended()).once('secure', () => this.#attach(secured));
    if (knowsRecords) {
      secured.on('keylog', (line: Buffer) => {
        const [label, , secret = ''] = line.toString('latin1').trim().split(' ');
        if (label === 'SERVER_TRAFFIC_SECRET_0') this.#opens = new RecordCipher(Buffer.from(secret, 'hex'));
        if (label === 'SERVER_TRAFFIC_SECRET_0') this.#seals = new RecordCipher(Buffer.from(secret, 'hex'));
      });
      onRecords(far, (record) => this.#relay(record));
    } else {
      far.on('data', (bytes: Buffer) => this.#pass(bytes));
    }
    this.#tcp.on('data', (bytes: Buffer) => {
      this.#shared.moved();
      far.write(bytes);
    });
  }

  /** Passes a record of node's TLS on, unless it is a session ticket. */
  #relay(record: Buffer): void {
    const opened = record[0] === contentType.applicationData ? this.#opens?.open(record) : undefined;
    if (opened === undefined || this.#seals === undefined) this.#pass(record);
    else if (opened.type !== contentType.handshake) this.#pass(this.#seals.seal(opened.type, opened.content));
  }

  #attach(stream: Duplex): void {
    this.#stream = stream;
    this.#shared.moved();
    stream.on('data', (bytes: Buffer) => {
      this.#shared.moved();
      for (let rest: Buffer | undefined = bytes; rest !== undefined && rest.length > 0;) rest = this.#take(rest);
    });
  }

  #take(bytes: Buffer): Buffer | undefined {
    if (this.#reader !== undefined) {
      const rest = this.#reader.push(bytes);
      if (rest !== undefined) this.#whole();
      return rest;
    }
    this.#unparsed = Buffer.concat([this.#unparsed, bytes]);
    const begin = this.#unparsed.toString('latin1', 0, 200);
    if (!'POST /v1/responses HTTP/1.1\r\n'.startsWith(begin.slice(0, 29))) this.#shared.fault(`what went up is no request: ${JSON.stringify(begin)}`);
    const head = parseHead(this.#unparsed);
    if (head === undefined) return undefined;
    const rest = this.#unparsed.subarray(head.raw.length);
    this.#unparsed = Buffer.alloc(0);
    const [tag = '?'] = headerValues(head.headers, 'x-tag');
    const authorization = headerValues(head.headers, 'authorization');
    if (authorization.length !== 1 || authorization[0] !== `Bearer ${this.#shared.key}`) {
      const isPlaceholder = /^Bearer [0-9a-f]{64}$/.test(authorization[0] ?? '');
      this.#shared.fault(`${tag} went up with ${isPlaceholder ? 'the placeholder' : `another key: ${authorization.length} values`}`);
    }
    if (this.#shared.seen.some((seen) => seen.tag === tag)) this.#shared.fault(`${tag} went up twice`);
    this.#current = { tag, connection: this, isWhole: false, isAnswered: false };
    this.#shared.seen.push(this.#current);
    this.usedAt = this.#shared.now();
    this.#bodyBytes = 0;
    this.#expectedBytes = Number(headerValues(head.headers, 'x-bytes')[0]);
    let begins = '';
    this.#reader = new BodyReader(framingOf(head.headers, noBody), (piece) => {
      this.#bodyBytes += piece.length;
      if (begins.length < 32) begins += piece.toString('latin1', 0, 32);
      const expected = `{"model":"m-${tag}"`;
      if (!begins.startsWith(expected.slice(0, begins.length))) this.#shared.fault(`${tag} went up with another's body: ${JSON.stringify(begins)}`);
    });
    if (this.#shared.isDeaf && !this.#reader.complete && rest.length < this.#expectedBytes) {
      this.#shared.isDeaf = false;
      this.stop();
    }
    if (this.#reader.complete) this.#whole();
    return rest;
  }

  #whole(): void {
    const seen = this.#current as Seen;
    seen.isWhole = true;
    this.#current = undefined;
    this.#reader = undefined;
    if (this.#bodyBytes !== this.#expectedBytes) this.#shared.fault(`${seen.tag} went up with ${this.#bodyBytes} bytes of ${this.#expectedBytes}`);
    if (!this.#shared.isPlain || seen.isAnswered) return;
    seen.isAnswered = true;
    this.answer(seen.tag, 'length');
  }

  #ended(): void {
    this.isOver = true;
    this.#secured?.destroy();
    this.#shared.moved();
  }
}

/** Kinds of final answers. */
export type AnswerKind = keyof typeof kinds;

interface Kind {
  readonly status: string;
  readonly fields: string;
  readonly framing: 'length' | 'chunked' | 'none';
  readonly bodyBytes: number;
  readonly endsWithConnection: boolean;
  /** What comes before it. */
  readonly interim: string;
}

const plain: Kind = { status: '200 OK', fields: '', framing: 'length', bodyBytes: 20, endsWithConnection: false, interim: '' };
const untilClose: Kind = { ...plain, fields: 'Connection: close\r\n', framing: 'none', endsWithConnection: true };

const kinds = {
  length: plain,
  limit: { ...plain, status: '429 Too Many Requests' },
  timeout: { ...plain, status: '408 Request Timeout' },
  chunked: { ...plain, framing: 'chunked', bodyBytes: 300 },
  empty: { ...plain, status: '204 No Content', framing: 'none', bodyBytes: 0 },
  last: { ...plain, fields: 'Connection: close\r\n' },
  interim: { ...plain, interim: 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n' },
  'until close': untilClose,
  'large until close': { ...untilClose, bodyBytes: 4_300_000 },
  large: { ...plain, bodyBytes: 300_000 },
  huge: { ...plain, framing: 'chunked', bodyBytes: 2_900_000 },
} as const satisfies Readonly<Record<string, Kind>>;

export const answerKinds = Object.keys(kinds) as AnswerKind[];

function answerBytes(id: number, kind: AnswerKind): Buffer {
  const { status, fields, framing, bodyBytes, interim }: Kind = kinds[kind];
  const head = `${interim}HTTP/1.1 ${status}\r\nX-Message: ${id}\r\n${fields}`;
  const body = Buffer.alloc(bodyBytes, `${id};`);
  if (framing === 'length') return Buffer.concat([Buffer.from(`${head}Content-Length: ${bodyBytes}\r\n\r\n`), body]);
  if (framing === 'none') return Buffer.concat([Buffer.from(`${head}\r\n`), body]);
  return Buffer.concat([Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n${bodyBytes.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')]);
}

/** An upstream whose connections are driven from outside. */
export class ModelUpstream {
  readonly args: readonly string[];
  connections: ModelConnection[] = [];
  readonly #server: net.Server;

  constructor(server: net.Server, link: Link, shared: Shared) {
    const { port } = server.address() as net.AddressInfo;
    this.#server = server;
    const context = link === 'clear' ? undefined : contextOf(link);
    const url = `${link === 'clear' ? 'http' : 'https'}://localhost:${port}/v1/responses`;
    this.args = ['--upstream-url', url, ...(context === undefined ? [] : ['--upstream-ca', caFile()]), ...(link === 'tunnel' ? ['--upstream-proxy', `http://127.0.0.1:${port}`] : [])];
    server.on('connection', (tcp) => {
      shared.moved();
      this.connections.push(new ModelConnection(tcp, link, context, shared));
    });
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const connection of this.connections) connection.destroy();
    await closed;
  }
}

function contextOf(link: Link): tls.SecureContext {
  const { key, cert } = identity('good');
  const version = link === 'tls12' ? 'TLSv1.2' : 'TLSv1.3';
  const ciphers = link === 'tls12' ? {} : { ciphers: 'TLS_AES_128_GCM_SHA256' };
  return tls.createSecureContext({ key: readFileSync(key), cert: readFileSync(cert), minVersion: version, maxVersion: version, ...ciphers });
}

/** Starts it; it ends with the test. */
export async function startModelUpstream(link: Link, shared: Shared): Promise<ModelUpstream> {
  const server = net.createServer({ noDelay: true, allowHalfOpen: false });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const upstream = new ModelUpstream(server, link, shared);
  cleanUp(() => upstream.close());
  return upstream;
}
