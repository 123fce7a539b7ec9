import type { JsonObject, JsonValue } from './strict-json.ts';

/** What is longer is not remembered. */
const maxLastBytes = 4 * 1024 * 1024;

/** How many bytes are compared at once. */
const comparedBytes = 4096;

/** Where an element of a list stood in a document, how many names and values it has, and what it said. */
export interface Item {
  readonly start: number;
  readonly end: number;
  readonly members: number;
  readonly value: JsonValue;
}

/**
 * The last document that was read, for the next one: conversations grow at their end.
 *
 * What it said is taken over as the very same objects, and only where all bytes before it, and its own, are the same. So
 * whoever judges the values (`FieldJudge`) may pass over an object that passed before: it stands in the same list, and
 * so does all that came before it.
 */
export class LastDocument {
  #bytes: Buffer = Buffer.alloc(0);
  #object: JsonObject | undefined;
  #items = new Map<number, Item>();
  #hasControls = false;

  get bytes(): Buffer {
    return this.#bytes;
  }

  /** What it said; undefined before the first. */
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

/** How many bytes two texts have in common at their beginning, or a little less. */
export function commonLength(one: Buffer, other: Buffer): number {
  const most = Math.min(one.length, other.length);
  for (let at = 0; at < most; at += comparedBytes) {
    const end = Math.min(at + comparedBytes, most);
    if (one.compare(other, at, end, at, end) !== 0) return at;
  }
  return most;
}
