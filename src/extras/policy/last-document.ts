import type { JsonObject, JsonValue } from './json-value.ts';

/** Longer documents are not kept. */
const maxLastBytes = 4 * 1024 * 1024;

/** Two documents are compared in blocks of this size. */
const comparedBytes = 4096;

/** An element of a list: its byte range in the document, its number of names and values, and its value. */
export interface Item {
  readonly start: number;
  readonly end: number;
  readonly members: number;
  readonly value: JsonValue;
}

/**
 * The document that was read last. Conversations grow at their end, so the next one mostly begins with the same bytes.
 *
 * The reader reuses its elements, as the same objects, only where their own bytes and all bytes before them are unchanged.
 * `FieldJudge` may therefore skip an object that has passed: it is still in the same list of the same field.
 */
export class LastDocument {
  #bytes: Buffer = Buffer.alloc(0);
  #object: JsonObject | undefined;
  #items = new Map<number, Item>();
  #hasControls = false;

  get bytes(): Buffer {
    return this.#bytes;
  }

  /** Its value; undefined before the first document. */
  get object(): JsonObject | undefined {
    return this.#object;
  }

  get hasControls(): boolean {
    return this.#hasControls;
  }

  itemAt(start: number): Item | undefined {
    return this.#items.get(start);
  }

  become(bytes: Buffer, object: JsonObject, items: readonly Item[], hasControls: boolean): void {
    if (bytes.length > maxLastBytes) return;
    this.#bytes = bytes;
    this.#object = object;
    this.#items = new Map(items.map((item) => [item.start, item]));
    this.#hasControls = hasControls;
  }
}

/** Length of the common beginning of two texts in bytes, rounded down to a whole block. */
export function commonLength(one: Buffer, other: Buffer): number {
  const most = Math.min(one.length, other.length);
  for (let at = 0; at < most; at += comparedBytes) {
    const end = Math.min(at + comparedBytes, most);
    if (one.compare(other, at, end, at, end) !== 0) return at;
  }
  return most;
}
