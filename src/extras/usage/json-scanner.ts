/** A JSON value that is neither an object nor an array. */
export type Scalar = string | number | boolean | null;

/** Longest string that is read, in bytes as sent. Names of models have less than 100; longer ones are passed over. */
const maxStringBytes = 1024;

/** Longest member name that is read, in bytes as sent: the longest wanted one, with every character as a \uXXXX. */
const maxNameBytes = 256;

/** Longest number or literal that is read, in bytes. */
const maxLiteralBytes = 32;

/** How far a string's end is looked for byte by byte, before `indexOf` pays for the call. */
const nearBytes = 32;

const [quote, backslash, comma, colon, openBrace, closeBrace, openBracket] = [0x22, 0x5c, 0x2c, 0x3a, 0x7b, 0x7d, 0x5b];
/** `[` and `{` differ in this bit alone, and so do `]` and `}`; no other bytes fold to the same. */
const [foldingBit, foldedOpening, foldedClosing] = [0x20, 0x7b, 0x7d];

/** A member that is wanted, or an object that holds some. */
export interface Wanted {
  readonly path: string;
  /** Its name as it is usually sent. */
  readonly bytes: Buffer;
  readonly members: Map<string, Wanted>;
}

/** @param paths the wanted members: their names, joined by dots */
export function wantedMembers(paths: readonly string[]): Wanted {
  const wanted = (path: string, name: string): Wanted => ({ path, bytes: Buffer.from(name), members: new Map() });
  const root = wanted('', '');
  for (const path of paths) {
    let place = root;
    for (const name of path.split('.')) {
      const next = place.members.get(name) ?? wanted(place === root ? name : `${place.path}.${name}`, name);
      place.members.set(name, next);
      place = next;
    }
  }
  return root;
}

type State =
  | 'start'
  | 'first name'
  | 'name'
  | 'in name'
  | 'colon'
  | 'value'
  | 'in string'
  | 'in literal'
  | 'in other'
  | 'after value'
  | 'done'
  | 'broken';

/**
 * Picks a few scalars out of a JSON object (RFC 8259) as its bytes pass, in pieces of any size, without keeping them:
 * memory is bounded for any text. Names are compared after their escapes are undone, only the members of the
 * wanted objects count, and of equal names the last one, as most parsers have it.
 *
 * It is no validator: of what it passes over, only strings and the number of brackets are looked at.
 */
export class JsonScanner {
  readonly #root: Wanted;
  readonly #found = new Map<string, Scalar>();
  #state: State = 'start';
  /** The wanted objects we are in, outermost first. */
  readonly #open: Wanted[] = [];
  /** What the current member is, where it is wanted. */
  #member: Wanted | undefined;
  /** The bytes of the name, string or literal that is being read, as latin1; undefined when they are of no use. */
  #captured: string | undefined;
  /** How many unwanted objects and arrays we are in. */
  #depth = 0;
  #isInUnwantedString = false;
  /** The last byte was a backslash that escapes the next one. */
  #isEscaped = false;

  constructor(wanted: Wanted) {
    this.#root = wanted;
  }

  /** The object is complete. */
  get isComplete(): boolean {
    return this.#state === 'done';
  }

  /** What was found so far, by path; nothing once the text has shown to be no JSON object. */
  get found(): ReadonlyMap<string, Scalar> {
    return this.#found;
  }

  /** Begins anew, with another text. */
  reset(): void {
    this.#found.clear();
    this.#state = 'start';
    if (this.#open.length > 0) this.#open.length = 0;
    this.#member = undefined;
    this.#captured = undefined;
    this.#depth = 0;
    this.#isInUnwantedString = false;
    this.#isEscaped = false;
  }

  /** Reads the text's next bytes. They are the caller's again when it returns. */
  write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && this.#state !== 'broken'; ) at = this.#step(bytes, at);
  }

  /** Reads on from `at`, and returns how far it came. */
  #step(bytes: Buffer, at: number): number {
    switch (this.#state) {
      case 'in other':
        return this.#passOver(bytes, at);
      case 'in name':
      case 'in string':
        return this.#readString(bytes, at);
      case 'in literal':
        return this.#readLiteral(bytes, at);
    }
    const byte = bytes[at] ?? 0;
    if (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) return at + 1;
    switch (this.#state) {
      case 'start':
        return byte === openBrace ? this.#enter(this.#root, at) : this.#break(at);
      case 'first name':
      case 'name':
        if (byte === closeBrace && this.#state === 'first name') return this.#leave(at);
        return byte === quote ? this.#begin('in name', '', at + 1) : this.#break(at);
      case 'colon':
        return byte === colon ? this.#go('value', at + 1) : this.#break(at);
      case 'value':
        return this.#beginValue(byte, at);
      case 'after value':
        if (byte === closeBrace) return this.#leave(at);
        return byte === comma ? this.#go('name', at + 1) : this.#break(at);
      default:
        return this.#break(at); // something follows the object
    }
  }

  #go(state: State, at: number): number {
    this.#state = state;
    return at;
  }

  #begin(state: State, captured: string | undefined, at: number): number {
    this.#captured = captured;
    return this.#go(state, at);
  }

  #break(at: number): number {
    this.#found.clear();
    return this.#go('broken', at);
  }

  #enter(object: Wanted, at: number): number {
    this.#open.push(object);
    return this.#go('first name', at + 1);
  }

  #leave(at: number): number {
    this.#open.pop();
    return this.#go(this.#open.length === 0 ? 'done' : 'after value', at + 1);
  }

  #beginValue(byte: number, at: number): number {
    const member = this.#member;
    if (member !== undefined) this.#forget(member);
    if (byte === openBrace && member !== undefined && member.members.size > 0) return this.#enter(member, at);
    const captured = member?.members.size === 0 ? '' : undefined;
    if (byte === quote) return this.#begin('in string', captured, at + 1);
    if (byte !== openBrace && byte !== openBracket) return this.#begin('in literal', captured, at);
    this.#depth = 0;
    return this.#go('in other', at);
  }

  /** A name that comes again replaces what came before, of any type. */
  #forget({ path }: Wanted): void {
    for (const found of this.#found.keys()) {
      if (found === path || found.startsWith(`${path}.`)) this.#found.delete(found);
    }
  }

  #readString(bytes: Buffer, from: number): number {
    const end = this.#endOfString(bytes, from);
    if (this.#state === 'in name' && this.#captured === '' && isPlain(bytes, from, end)) {
      this.#member = memberNamed(bytes, from, end, this.#open.at(-1));
      return this.#go('colon', end + 1);
    }
    const most = this.#state === 'in name' ? maxNameBytes : maxStringBytes;
    this.#capture(bytes, from, end, most);
    if (end === bytes.length) return end;
    const text = this.#captured === undefined ? undefined : textOf(this.#captured);
    if (this.#state === 'in name') {
      this.#member = text === undefined ? undefined : this.#open.at(-1)?.members.get(text);
      return this.#go('colon', end + 1);
    }
    if (this.#member !== undefined && text !== undefined) this.#found.set(this.#member.path, text);
    return this.#go('after value', end + 1);
  }

  #readLiteral(bytes: Buffer, from: number): number {
    let end = from;
    for (; end < bytes.length; end++) {
      const byte = bytes[end] ?? 0;
      if (byte === comma || byte === closeBrace || byte <= 0x20) break;
    }
    this.#capture(bytes, from, end, maxLiteralBytes);
    if (end === bytes.length) return end;
    if (this.#member !== undefined && this.#captured !== undefined) {
      const literal = parse(this.#captured);
      if (literal === undefined) return this.#break(end);
      this.#found.set(this.#member.path, literal);
    }
    return this.#go('after value', end);
  }

  #capture(bytes: Buffer, from: number, to: number, most: number): void {
    if (this.#captured === undefined) return;
    this.#captured = this.#captured.length + to - from > most ? undefined : this.#captured + bytes.toString('latin1', from, to);
  }

  /** An object or array of no interest, from its opening bracket to its closing one. Most bytes come by here. */
  #passOver(bytes: Buffer, from: number): number {
    const { length } = bytes;
    let depth = this.#depth;
    let at = from;
    let isInString = this.#isInUnwantedString;
    while (at < length) {
      if (isInString) {
        at = this.#endOfString(bytes, at);
        if (at === length) break;
        isInString = false;
        at++;
      }
      // Names and short texts: the loop of `#endOfString`, without the call.
      for (; at < length; at++) {
        const byte = bytes[at] ?? 0;
        if (byte === quote) {
          const near = Math.min(length, at + nearBytes);
          at++;
          while (at < near && bytes[at] !== quote && bytes[at] !== backslash) at++;
          if (bytes[at] === quote && at < near) continue;
          isInString = true;
          break;
        }
        const folded = byte | foldingBit;
        if (folded === foldedOpening) {
          depth++;
        } else if (folded === foldedClosing && --depth === 0) {
          this.#isInUnwantedString = false;
          this.#depth = 0;
          return this.#go('after value', at + 1);
        }
      }
    }
    this.#isInUnwantedString = isInString;
    this.#depth = depth;
    return at;
  }

  /** Where the quote is that ends the string we are in; the bytes' length if it is not among them. */
  #endOfString(bytes: Buffer, from: number): number {
    const { length } = bytes;
    let at = this.#isEscaped ? from + 1 : from;
    this.#isEscaped = false;
    for (;;) {
      for (const near = Math.min(length, at + nearBytes); at < near; at++) {
        const byte = bytes[at];
        if (byte === quote) return at;
        if (byte === backslash) at++;
      }
      if (at >= length) {
        this.#isEscaped = at > length;
        return length;
      }
      const found = bytes.indexOf(quote, at);
      const end = found === -1 ? length : found;
      let first = end; // of the backslashes before the quote; each pair of them is one that escapes nothing
      while (first > at && bytes[first - 1] === backslash) first--;
      const isEscaped = (end - first) % 2 === 1;
      if (found === -1) {
        this.#isEscaped = isEscaped;
        return length;
      }
      if (!isEscaped) return found;
      at = found + 1;
    }
  }
}


/** Whether a name is here as a whole, and has no escapes: to make strings of all names would cost more than the rest. */
function isPlain(bytes: Buffer, from: number, end: number): boolean {
  if (end === bytes.length) return false;
  for (let at = from; at < end; at++) if (bytes[at] === backslash) return false;
  return true;
}

function memberNamed(bytes: Buffer, from: number, end: number, object: Wanted | undefined): Wanted | undefined {
  for (const member of object?.members.values() ?? []) {
    if (member.bytes.length !== end - from) continue;
    let at = from;
    while (at < end && bytes[at] === member.bytes[at - from]) at++;
    if (at === end) return member;
  }
  return undefined;
}

/** A string's text out of its bytes as sent, without the quotes; undefined when they are no JSON. */
function textOf(captured: string): string | undefined {
  if (/^[\x20-\x5b\x5d-\x7e]*$/.test(captured)) return captured;
  const text = parse(`"${Buffer.from(captured, 'latin1').toString('utf8')}"`);
  return typeof text === 'string' ? text : undefined;
}

function parse(json: string): Scalar | undefined {
  try {
    return JSON.parse(json) as Scalar;
  } catch {
    return undefined;
  }
}
