import { isUtf8 } from 'node:buffer';
import { type JsonArray, type JsonObject, type JsonValue, isObject, pointerStep, shortPlace } from './json-value.ts';
import { type Item, LastDocument, commonLength } from './last-document.ts';

/** Deepest nesting that is read; the outermost object is level 1. */
export const maxDepth = 64;

/**
 * Most names and values in one document: they, not the bytes, are what reading costs. JSON.parse takes seconds for 16 MiB
 * of `{"a":1},`. A conversation of 15,000 messages fits.
 */
export const maxMembers = 200_000;

/** Most names in one object. Older versions of Node can be made to look for each name among all others (an attack on hash tables). */
const maxNames = 4096;

/** Longest name, in bytes as written. The API's own have less than 40, those that users give in metadata at most 64. */
const maxNameBytes = 512;

/** Longest text that is read, in bytes as written. Of what is longer there is a beginning, and `cutMark`. */
export const maxTextBytes = 512;
const beginningBytes = 64;

const quoteBytes = 2;

/** From this length on, V8 makes a piece of a text one that keeps all of the text in memory. */
const slicedLength = 13;

/** No name that the API knows ends like this. */
export const cutMark = '\u2026';

/** The object; or why there is none, to follow "The body" or "it", and for a syntax error the offset of it, in bytes. */
export type JsonReading = { kind: 'object'; object: JsonObject } | { kind: 'invalid'; why: string; at?: number };

const [quote, comma, minus, colon, openBracket, backslash, closeBracket, openBrace, closeBrace] = [0x22, 0x2c, 0x2d, 0x3a, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d];
const [letterF, letterN, letterT, letterU] = [0x66, 0x6e, 0x74, 0x75];

/** Most texts are names: their end is looked for here before the runtime is asked to search. */
const shortTextBytes = 32;

/** At this depth, the elements of a list are taken over from the document before: the items of a conversation. */
const itemDepth = 2;

/** What may follow a backslash (RFC 8259 section 7), beside u. */
const simpleEscapes = new Uint8Array(256);
for (const byte of Buffer.from('"\\/bfnrt')) simpleEscapes[byte] = 1;

/**
 * Reads one JSON object (RFC 8259) from UTF-8 bytes. It refuses what another reader could understand differently: a
 * repeated name in one object, at any depth and however it is escaped (JSON.parse keeps the last, others the first); bytes that are not UTF-8; a byte order mark; anything before or after the object. It also refuses
 * what is expensive to read, see `maxDepth` and `maxMembers`.
 *
 * Long texts are not decoded, and so this is faster than JSON.parse: most of a request is text that no rule looks at.
 *
 * @param last the document that the same caller read before; values are reused where this one begins with the same bytes.
 *   Afterwards it holds this one.
 */
export function readJsonObject(bytes: Buffer, last: LastDocument = new LastDocument()): JsonReading {
  // A retry has the same bytes.
  if (last.object !== undefined && last.bytes.equals(bytes)) return { kind: 'object', object: last.object };
  if (!isUtf8(bytes)) return { kind: 'invalid', why: 'is not UTF-8' };
  const reader = new Reader(bytes, last);
  try {
    return { kind: 'object', object: reader.document() };
  } catch (error) {
    if (error instanceof NotJson) return { kind: 'invalid', why: error.message, at: reader.at };
    if (error instanceof Unreadable) return { kind: 'invalid', why: error.message };
    throw error;
  }
}

class Unreadable extends Error {}

class NotJson extends Unreadable {}

/** One pass over the bytes of one document. */
class Reader {
  readonly #bytes: Buffer;
  readonly #last: LastDocument;
  /** As many bytes at the beginning are those of the last document. */
  readonly #same: number;
  readonly #items: Item[] = [];
  /** The same bytes, one character for each. */
  readonly #text: string;
  #at = 0;
  #depth = 0;
  #members = 0;
  /** The next one at or after some place before `#at`; searched for anew once passed, so that each byte is looked at once. */
  #nextBackslash = -1;
  /** The same for control characters; none where the bytes have none at all, as without line breaks. */
  #nextControl: number;
  readonly #hasControls: boolean;
  readonly #control = /[\x00-\x1f]/g;
  readonly #number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

  constructor(bytes: Buffer, last: LastDocument) {
    this.#bytes = bytes;
    this.#last = last;
    this.#same = commonLength(bytes, last.bytes);
    this.#text = bytes.toString('latin1');
    this.#hasControls = (this.#same > 0 && last.hasControls) || hasControls(bytes.subarray(this.#same));
    this.#nextControl = this.#hasControls ? -1 : Infinity;
  }

  /** How far it was read, in bytes. */
  get at(): number {
    return this.#at;
  }

  document(): JsonObject {
    const value = this.#value();
    if (this.#token() !== undefined) throw notJson();
    if (!isObject(value)) throw new Unreadable('is not a JSON object');
    this.#last.become(this.#bytes, value, this.#items, this.#hasControls);
    return value;
  }

  /** The next byte that is no white space; undefined at the end. */
  #token(): number | undefined {
    for (;;) {
      const byte = this.#bytes[this.#at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      this.#at++;
    }
  }

  #value(): JsonValue {
    if (++this.#members > maxMembers) throw new Unreadable(`holds more than ${maxMembers} names and values`);
    const byte = this.#token();
    switch (byte) {
      case quote:
        return this.#string(maxTextBytes);
      case openBrace:
        return this.#object();
      case openBracket:
        return this.#array();
      case letterT:
        return this.#literal('true', true);
      case letterF:
        return this.#literal('false', false);
      case letterN:
        return this.#literal('null', null);
      default:
        return this.#numeral(byte);
    }
  }

  #object(): JsonObject {
    this.#open();
    const object = new Map<string, JsonValue>();
    let names = 0;
    if (this.#token() === closeBrace) return this.#close(object);
    for (;;) {
      const name = this.#name();
      object.set(name, this.#valueAt(name));
      // Cheaper than to ask before.
      if (object.size === names++) throw new RepeatedName(name);
      if (names > maxNames) throw new Unreadable(`has more than ${maxNames} names in one object`);
      if (this.#isLast(closeBrace)) return this.#close(object);
    }
  }

  #array(): JsonArray {
    this.#open();
    const array: JsonValue[] = [];
    if (this.#token() === closeBracket) return this.#close(array);
    for (;;) {
      array.push(this.#depth === itemDepth ? this.#item(array.length) : this.#valueAt(array.length));
      if (this.#isLast(closeBracket)) return this.#close(array);
    }
  }

  /** A member's name, and the colon. */
  #name(): string {
    if (this.#token() !== quote) throw notJson();
    const start = this.#at;
    const name = this.#string(Infinity);
    if (this.#at - start > maxNameBytes + quoteBytes) throw new Unreadable(`has a name of more than ${maxNameBytes} bytes`);
    if (this.#token() !== colon) throw notJson();
    this.#at++;
    this.#members++;
    return name;
  }

  /** After the same bytes the same state: what began here is what it was, if it also ended there, and the byte behind it is the same. */
  #item(index: number): JsonValue {
    const start = this.#at;
    const before = this.#members;
    const known = this.#last.itemAt(start);
    let value: JsonValue;
    if (known === undefined || known.end >= this.#same) {
      value = this.#valueAt(index);
    } else {
      value = known.value;
      this.#at = known.end;
      this.#members += known.members;
    }
    this.#items.push({ start, end: this.#at, members: this.#members - before, value });
    return value;
  }

  /** A value inside of another; what is wrong there is wrong at this step of the way. */
  #valueAt(step: string | number): JsonValue {
    try {
      return this.#value();
    } catch (error) {
      if (error instanceof RepeatedName) error.lead(step);
      throw error;
    }
  }

  #open(): void {
    this.#at++;
    if (++this.#depth > maxDepth) throw new Unreadable(`nests deeper than ${maxDepth} levels`);
  }

  #close<T>(value: T): T {
    this.#at++;
    this.#depth--;
    return value;
  }

  /** After a member: goes behind a comma, or stays at the end of what holds it. */
  #isLast(end: number): boolean {
    const byte = this.#token();
    if (byte === end) return true;
    if (byte !== comma) throw notJson();
    this.#at++;
    return false;
  }

  #literal<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw notJson();
    this.#at += word.length;
    return value;
  }

  #numeral(first: number | undefined): number {
    if (first !== minus && (first === undefined || first < 0x30 || first > 0x39)) throw notJson();
    this.#number.lastIndex = this.#at;
    const [text] = this.#number.exec(this.#text) ?? [];
    if (text === undefined) throw notJson();
    this.#at += text.length;
    return Number(text);
  }

  /** @param most bytes to read; with more, the text is cut */
  #string(most: number): string {
    const start = this.#at + 1;
    const near = start + shortTextBytes;
    for (let at = start; at < near; at++) {
      const byte = this.#bytes[at];
      if (byte === quote) {
        this.#at = at + 1;
        return this.#plain(start, at);
      }
      if (byte === undefined || byte < 0x20 || byte > 0x7e || byte === backslash) break;
    }
    return this.#longString(start, most);
  }

  /** The same for what is long, or has escapes, or goes beyond ASCII. */
  #longString(start: number, most: number): string {
    const bytes = this.#bytes;
    let end = this.#text.indexOf('"', start);
    let cut = start + beginningBytes;
    let escape = this.#nextBackslash < start ? indexOf(this.#text, '\\', start) : this.#nextBackslash;
    while (escape < end) {
      const after = escape + (simpleEscapes[bytes[escape + 1] ?? 0] === 1 ? 2 : this.#unicodeEscapeLength(escape));
      if (escape < cut && after > cut) cut = escape;
      if (escape + 1 === end) end = this.#text.indexOf('"', after);
      escape = indexOf(this.#text, '\\', after);
    }
    this.#nextBackslash = escape;
    if (end === -1 || this.#controlFrom(start) < end) throw notJson();
    this.#at = end + 1;
    if (end - start <= most) return this.#decode(start, end);
    while (((bytes[cut] ?? 0) & 0xc0) === 0x80) cut--; // not within a character
    return this.#decode(start, cut) + cutMark;
  }

  #unicodeEscapeLength(at: number): number {
    if (this.#bytes[at + 1] === letterU && /^[0-9a-fA-F]{4}$/.test(this.#text.slice(at + 2, at + 6))) return 6;
    throw notJson();
  }

  #controlFrom(start: number): number {
    if (this.#nextControl < start) {
      this.#control.lastIndex = start;
      this.#nextControl = this.#control.exec(this.#text)?.index ?? Infinity;
    }
    return this.#nextControl;
  }

  /** A piece of the text, free of the rest: pieces outlive their document. */
  #plain(start: number, end: number): string {
    return end - start < slicedLength ? this.#text.slice(start, end) : this.#bytes.toString('latin1', start, end);
  }

  #decode(start: number, end: number): string {
    const plain = this.#plain(start, end);
    if (!/[\\\x80-\xff]/.test(plain)) return plain;
    const text = this.#bytes.toString('utf8', start, end);
    return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text;
  }
}

/** A name that an object has already. It collects the way to it on the way out. */
class RepeatedName extends Unreadable {
  #place: string;

  constructor(name: string) {
    super();
    this.#place = pointerStep(name);
  }

  lead(step: string | number): void {
    this.#place = pointerStep(step) + this.#place;
  }

  override get message(): string {
    return `gives a name twice, at ${shortPlace(this.#place)}`;
  }
}

/** Four bytes at a time: a byte below 0x20 borrows from its top bit, which is clear in all of ASCII. */
function hasControls(bytes: Buffer): boolean {
  const start = -bytes.byteOffset & 3;
  if (bytes.length < start) return bytes.some(isControl);
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + start, (bytes.length - start) >> 2);
  let below = 0;
  let other = 0; // two sums, so that neither waits for the other
  for (let i = 0; i < words.length; i += 2) {
    const word = words[i] ?? 0x20202020;
    const next = words[i + 1] ?? 0x20202020;
    below |= (word - 0x20202020) & ~word;
    other |= (next - 0x20202020) & ~next;
  }
  if (((below | other) & 0x80808080) !== 0) return true;
  const rest = start + words.byteLength;
  return bytes.subarray(0, start).some(isControl) || bytes.subarray(rest).some(isControl);
}

function isControl(byte: number): boolean {
  return byte < 0x20;
}

function notJson(): NotJson {
  return new NotJson('is not JSON');
}

function indexOf(text: string, sought: string, from: number): number {
  const at = text.indexOf(sought, from);
  return at === -1 ? Infinity : at;
}
