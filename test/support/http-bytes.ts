/** A lenient reader of HTTP/1.x messages, for both ends of the tests. It does not validate; it finds where messages begin and end. */

/** Header lines as received: order, duplicates and case kept. */
export type HeaderLines = readonly (readonly [name: string, value: string])[];

export interface ParsedHead {
  /** The first line, without its CR LF. */
  readonly startLine: string;
  readonly headers: HeaderLines;
  /** Its bytes with the empty line, as latin1. */
  readonly raw: string;
}

/** The head at the beginning of `bytes`, or undefined while its empty line is missing. */
export function parseHead(bytes: Buffer): ParsedHead | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [startLine = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(':');
    return colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')];
  });
  return { startLine, headers, raw: bytes.toString('latin1', 0, end + 4) };
}

/** All values of a header, in order; the name matches in any case. */
export function headerValues(headers: HeaderLines, name: string): string[] {
  return headers.filter(([key]) => key.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
}

/** How a message's body ends. */
export type Framing = { readonly kind: 'length'; readonly length: number } | { readonly kind: 'chunked' } | { readonly kind: 'until close' };

/** By its headers; `otherwise` for a head that has neither Transfer-Encoding nor Content-Length. */
export function framingOf(headers: HeaderLines, otherwise: Framing): Framing {
  if (headerValues(headers, 'transfer-encoding').some((value) => /chunked/i.test(value))) return { kind: 'chunked' };
  const [length] = headerValues(headers, 'content-length');
  return length === undefined ? otherwise : { kind: 'length', length: Number(length) };
}

export const noBody: Framing = { kind: 'length', length: 0 };

/**
 * Decodes a body as its bytes arrive. `push` returns the bytes after the body once it is complete, else undefined;
 * `onData` gets the decoded bytes.
 */
export class BodyReader {
  /** Sizes of the chunks, if it is chunked. */
  readonly chunkSizes: number[] = [];
  /** The lines after the last chunk. */
  trailers: string[] = [];
  complete: boolean;
  readonly #framing: Framing;
  readonly #onData: (data: Buffer) => void;
  #remaining: number;
  #state: 'size' | 'data' | 'data end' | 'trailers';
  #line: Buffer = Buffer.alloc(0);

  constructor(framing: Framing, onData: (data: Buffer) => void) {
    this.#framing = framing;
    this.#onData = onData;
    this.#remaining = framing.kind === 'length' ? framing.length : 0;
    this.#state = framing.kind === 'chunked' ? 'size' : 'data';
    this.complete = framing.kind === 'length' && framing.length === 0;
  }

  push(bytes: Buffer): Buffer | undefined {
    if (this.complete) return bytes;
    if (this.#framing.kind === 'until close') {
      this.#onData(bytes);
      return undefined;
    }
    let rest = bytes;
    while (!this.complete && rest.length > 0) rest = this.#state === 'data' ? this.#takeData(rest) : this.#takeLine(rest);
    return this.complete ? rest : undefined;
  }

  #takeData(bytes: Buffer): Buffer {
    const data = bytes.subarray(0, this.#remaining);
    this.#remaining -= data.length;
    if (data.length > 0) this.#onData(data);
    if (this.#remaining === 0) {
      if (this.#framing.kind === 'length') this.complete = true;
      else this.#state = 'data end';
    }
    return bytes.subarray(data.length);
  }

  #takeLine(bytes: Buffer): Buffer {
    const newline = bytes.indexOf(0x0a);
    const taken = newline < 0 ? bytes.length : newline + 1;
    this.#line = Buffer.concat([this.#line, bytes.subarray(0, taken)]);
    if (newline >= 0) {
      const line = this.#line.toString('latin1').replace(/\r?\n$/, '');
      this.#line = Buffer.alloc(0);
      this.#readLine(line);
    }
    return bytes.subarray(taken);
  }

  #readLine(line: string): void {
    if (this.#state === 'data end') {
      this.#state = 'size';
    } else if (this.#state === 'trailers') {
      if (line === '') this.complete = true;
      else this.trailers.push(line);
    } else {
      this.#remaining = Number.parseInt(line, 16);
      if (Number.isNaN(this.#remaining)) throw new Error(`not a chunk size: ${JSON.stringify(line)}`);
      if (this.#remaining > 0) this.chunkSizes.push(this.#remaining);
      this.#state = this.#remaining === 0 ? 'trailers' : 'data';
    }
  }
}

/** `body` as chunks of the chunked coding, with the last chunk. */
export function chunked(...pieces: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat([...pieces.map(chunk), Buffer.from('0\r\n\r\n')]);
}

/** One chunk, without the last. */
export function chunk(piece: string | Buffer): Buffer {
  const data = toBytes(piece);
  return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]);
}

/** Strings are latin1 throughout: one character, one byte. */
export function toBytes(data: string | Uint8Array): Buffer {
  return typeof data === 'string' ? Buffer.from(data, 'latin1') : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
