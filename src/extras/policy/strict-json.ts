import { isUtf8 } from 'node:buffer';
import { type JsonArray, type JsonObject, type JsonValue, isObject, pointerStep, shortPlace } from './json-value.ts';

/** Deepest nesting that is read; the outermost object is level 1. */
export const maxDepth = 64;

/**
 * Most names and values in one document: they, not the bytes, are what reading costs. JSON.parse takes seconds and 500 MiB
 * for 16 MiB of `{},`. A conversation of 15,000 messages fits.
 */
export const maxMembers = 200_000;

/** Most names in one object. Older versions of Node can be made to look for each name among all others (an attack on hash tables). */
const maxNames = 4096;

/** Longest name, in bytes as written. The API's own have less than 40, those that users give in metadata at most 64. */
const maxNameBytes = 512;

const quoteBytes = 2;

const backslash = 0x5c;

type Scalar = null | boolean | number | string;

/** The object; or why there is none, to follow "The body" or "it", and for a syntax error where it is, in characters. */
export type JsonReading = { kind: 'object'; object: JsonObject } | { kind: 'invalid'; why: string; at?: number };

/**
 * Reads one JSON object (RFC 8259) from UTF-8 bytes. It refuses what another reader could understand differently: a
 * repeated name in one object, at any depth and however it is escaped (JSON.parse keeps the last, others the first); bytes
 * that are not UTF-8; a byte order mark; anything before or after the object. It also refuses what is expensive to read,
 * see `maxDepth` and `maxMembers`.
 *
 * JSON.parse reads the texts, numbers and literals alone. It must not read names: V8 13 (Node 24 and 25) takes an escaped name for
 * one that it has seen before, so that `image_ur\u006c` passes for `image_ur\`.
 */
export function readJsonObject(bytes: Buffer): JsonReading {
  if (!isUtf8(bytes)) return { kind: 'invalid', why: 'is not UTF-8' };
  const reader = new Reader(bytes.toString('utf8'));
  try {
    const value = reader.document();
    return isObject(value) ? { kind: 'object', object: value } : { kind: 'invalid', why: 'is not a JSON object' };
  } catch (error) {
    if (error instanceof SyntaxError) return { kind: 'invalid', why: 'is not JSON', at: reader.at };
    if (error instanceof Unreadable) return { kind: 'invalid', why: error.message };
    throw error;
  }
}

class Unreadable extends Error {}

/** One pass over one document. */
class Reader {
  readonly #text: string;
  /** The names and indexes that lead to where we are. */
  readonly #path: Array<string | number> = [];
  #members = 0;
  /** How far it was read. */
  at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): JsonValue {
    const value = this.#value();
    if (this.#next() !== '') throw new SyntaxError();
    return value;
  }

  /** The next character that is no white space; '' at the end. */
  #next(): string {
    while (isBlank(this.#text.charCodeAt(this.at))) this.at++;
    return this.#text.charAt(this.at);
  }

  #value(): JsonValue {
    if (++this.#members > maxMembers) throw new Unreadable(`holds more than ${maxMembers} names and values`);
    switch (this.#next()) {
      case '{':
        return this.#object();
      case '[':
        return this.#array();
      case '"':
        return this.#scalar(this.#string());
      default:
        return this.#scalar(this.#word());
    }
  }

  #object(): JsonObject {
    const object = new Map<string, JsonValue>();
    this.#list('}', (index) => {
      if (index === maxNames) throw new Unreadable(`has more than ${maxNames} names in one object`);
      if (this.#next() !== '"') throw new SyntaxError();
      const spelled = this.#string();
      if (Buffer.byteLength(spelled) > maxNameBytes + quoteBytes) throw new Unreadable(`has a name of more than ${maxNameBytes} bytes`);
      const name = String(this.#scalar(spelled));
      this.#members++;
      if (this.#next() !== ':') throw new SyntaxError();
      this.at++;
      this.#path.push(name);
      if (object.has(name)) throw new Unreadable(`gives a name twice, at ${shortPlace(this.#path.map(pointerStep).join(''))}`);
      object.set(name, this.#value());
      this.#path.pop();
    });
    return object;
  }

  #array(): JsonArray {
    const array: JsonValue[] = [];
    this.#list(']', (index) => {
      this.#path.push(index);
      array.push(this.#value());
      this.#path.pop();
    });
    return array;
  }

  /** What stands between brackets. @param element reads one element or member */
  #list(close: string, element: (index: number) => void): void {
    if (this.#path.length === maxDepth) throw new Unreadable(`nests deeper than ${maxDepth} levels`);
    this.at++;
    for (let index = 0; this.#next() !== close; index++) {
      if (index > 0) {
        if (this.#next() !== ',') throw new SyntaxError();
        this.at++;
      }
      element(index);
    }
    this.at++;
  }

  /** A string as it is written, with its quotes: up to the next quote that no backslash escapes. */
  #string(): string {
    let end = this.at;
    let backslashes: number;
    do {
      end = this.#text.indexOf('"', end + 1);
      if (end === -1) throw new SyntaxError();
      for (backslashes = 0; this.#text.charCodeAt(end - 1 - backslashes) === backslash; ) backslashes++;
    } while (backslashes % 2 === 1);
    return this.#text.slice(this.at, end + 1);
  }

  /** A number or a literal, or what stands in the place of one. */
  #word(): string {
    let end = this.at;
    while (end < this.#text.length && !',]}'.includes(this.#text.charAt(end)) && !isBlank(this.#text.charCodeAt(end))) end++;
    return this.#text.slice(this.at, end);
  }

  /** Reads what is neither an object nor an array. */
  #scalar(text: string): Scalar {
    const value = JSON.parse(text) as Scalar;
    this.at += text.length;
    return value;
  }
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}
