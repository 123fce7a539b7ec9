import net from 'node:net';
import { BodyReader, chunk, framingOf, headerValues, noBody, parseHead } from './http-bytes.ts';
import { largeBytes, type Shared } from './model-upstream.ts';

/** What a request's body is like. In parts: the second is sent by `sendRest`. */
export const askKinds = ['tiny', 'chunked', 'medium', 'large', 'length in parts', 'chunks in parts', 'large in parts'] as const;
export type AskKind = (typeof askKinds)[number];

/** An answer as a client got it. */
export interface Got {
  readonly status: number;
  /** The number of the upstream's message; undefined where the daemon answered by itself. */
  readonly message: number | undefined;
  bodyBytes: number;
  /** The first bytes of the body. */
  begins: string;
  isWhole: boolean;
}

/** A request of a client's. */
export interface Asked {
  readonly tag: string;
  readonly kind: AskKind;
  readonly sentAt: number;
  /** The client has broken it off, or its own side of the connection. */
  hasLeft: boolean;
  got: Got | undefined;
  /** Nothing more comes. */
  isOver: boolean;
}

const fill = (bytes: number): Buffer => Buffer.alloc(bytes, 'x');
const endOfBody = Buffer.from('"}');

/** One client. It sends one request at a time, on the connection that it has, or on a new one. */
export class ModelClient {
  readonly #port: number;
  readonly #shared: Shared;
  #socket: net.Socket | undefined;
  #isPaused = false;
  #unsent: Buffer | undefined;
  #unparsed: Buffer = Buffer.alloc(0);
  #reader: BodyReader | undefined;
  current: Asked | undefined;

  constructor(port: number, shared: Shared) {
    this.#port = port;
    this.#shared = shared;
  }

  get isBusy(): boolean {
    return this.current?.isOver === false;
  }

  /** Does nothing while a request runs. */
  ask(tag: string, kind: AskKind): Asked | undefined {
    if (this.isBusy) return undefined;
    const asked: Asked = { tag, kind, sentAt: this.#shared.now(), hasLeft: false, got: undefined, isOver: false };
    this.current = asked;
    if (this.#unsent !== undefined) this.#socket?.destroy(); // that request was answered before it was whole
    this.#unsent = undefined;
    this.#unparsed = Buffer.alloc(0);
    this.#reader = undefined;
    const begin = Buffer.from(`{"model":"m-${tag}","input":"`);
    const inputBytes = kind.startsWith('large') ? largeBytes : kind === 'medium' ? 40_000 : 20;
    const body = Buffer.concat([begin, fill(inputBytes), endOfBody]);
    const isChunked = kind.startsWith('chunk');
    const head = `POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${this.#port}\r\nContent-Type: application/json\r\nX-Tag: ${tag}\r\nX-Bytes: ${body.length}\r\n`
      + (isChunked ? 'Transfer-Encoding: chunked\r\n\r\n' : `Content-Length: ${body.length}\r\n\r\n`);
    const split = kind.endsWith('in parts') ? begin.length + Math.floor(inputBytes / 2) : body.length;
    const frame = (piece: Buffer): Buffer => (isChunked && piece.length > 0 ? chunk(piece) : piece);
    const last = Buffer.concat([frame(body.subarray(split)), Buffer.from(isChunked ? '0\r\n\r\n' : '')]);
    const first = Buffer.concat([Buffer.from(head), frame(body.subarray(0, split))]);
    const socket = this.#connected();
    if (split === body.length) socket.write(Buffer.concat([first, last]));
    else {
      socket.write(first);
      this.#unsent = last;
    }
    return asked;
  }

  sendRest(): void {
    if (this.#unsent !== undefined) this.#socket?.write(this.#unsent);
    this.#unsent = undefined;
  }

  leave(how: 'FIN' | 'RST' | 'half'): void {
    if (this.current !== undefined) this.current.hasLeft = true;
    if (how === 'half') this.#socket?.end();
    else if (how === 'RST') this.#socket?.resetAndDestroy();
    else this.#socket?.destroy();
  }

  pause(): void {
    this.#isPaused = true;
    this.#socket?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#socket?.resume();
  }

  #connected(): net.Socket {
    const old = this.#socket;
    if (old !== undefined && !old.destroyed && !old.writableEnded && !old.readableEnded) return old;
    const socket = net.connect({ port: this.#port, host: '127.0.0.1', noDelay: true });
    this.#socket = socket;
    const over = (): void => {
      this.#shared.moved();
      if (this.#socket === socket) this.#ended();
    };
    socket.on('error', over).on('end', over).on('close', over).on('data', (bytes: Buffer) => {
      this.#shared.moved();
      if (this.#socket === socket) this.#take(bytes);
    });
    if (this.#isPaused) socket.pause();
    return socket;
  }

  #ended(): void {
    if (this.current !== undefined) this.current.isOver = true;
  }

  #take(bytes: Buffer): void {
    const { current } = this;
    if (current === undefined || current.isOver) return this.#shared.fault(`a client got bytes of no request: ${JSON.stringify(bytes.toString('latin1', 0, 80))}`);
    let rest: Buffer | undefined = bytes;
    if (this.#reader === undefined) {
      this.#unparsed = Buffer.concat([this.#unparsed, bytes]);
      const head = parseHead(this.#unparsed);
      if (head === undefined) return;
      rest = this.#unparsed.subarray(head.raw.length);
      this.#unparsed = Buffer.alloc(0);
      const status = Number(head.startLine.slice(9, 12));
      const [message] = headerValues(head.headers, 'x-message');
      const got: Got = { status, message: message === undefined ? undefined : Number(message), bodyBytes: 0, begins: '', isWhole: false };
      current.got = got;
      this.#reader = new BodyReader(status === 204 ? noBody : framingOf(head.headers, { kind: 'until close' }), (piece) => {
        got.bodyBytes += piece.length;
        if (got.begins.length < 500) got.begins += piece.toString('latin1', 0, 500);
      });
    }
    const left = this.#reader.complete ? rest : this.#reader.push(rest);
    if (!this.#reader.complete) return;
    (current.got as Got).isWhole = true;
    current.isOver = true;
    this.#shared.moved();
    if (left !== undefined && left.length > 0) this.#take(left);
  }
}
