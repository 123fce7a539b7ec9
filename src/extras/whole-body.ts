import type { IncomingMessage } from 'node:http';

/** Bodies come over loopback: a slower one is held back by its sender, and occupies our memory meanwhile. */
const bodyTimeoutMs = 30_000;

/** How a body was gathered: all of it; as far as it might be held; or as far as it came in time. */
export type Gathering = 'whole' | 'stopped' | 'late';

/** A budget of memory, in bytes. */
export class MemoryBudget {
  readonly #most: number;
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Takes so many bytes more, and says whether they were there to be taken. Either way they have to be given back. */
  take(bytes: number): boolean {
    this.#taken += bytes;
    return this.#taken <= this.#most;
  }

  giveBack(bytes: number): void {
    this.#taken -= bytes;
  }
}

/** Bytes that come in pieces, in one buffer: a piece must not copy all that came before, and one of a byte must not cost a hundred. */
export class Pieces {
  /** Undefined where it is not known. */
  readonly #length: number | undefined;
  /** A single piece as it is, or a buffer with room for more. */
  #buffer: Buffer | undefined;
  #filled = 0;

  /** @param length how many bytes there will be, if that is known */
  constructor(length?: number) {
    this.#length = length;
  }

  /** What is here so far; undefined for nothing. */
  get bytes(): Buffer | undefined {
    return this.#buffer?.subarray(0, this.#filled);
  }

  get filled(): number {
    return this.#filled;
  }

  /** How much memory it will take with so many bytes more. */
  memoryWith(more: number): number {
    const filled = this.#filled + more;
    if (this.#buffer === undefined || filled <= this.#buffer.length) return this.#buffer?.length ?? more;
    return this.#length ?? Math.ceil(filled * 1.5);
  }

  add(piece: Buffer): void {
    const memory = this.memoryWith(piece.length);
    if (this.#buffer === undefined) {
      this.#buffer = piece;
    } else {
      if (memory > this.#buffer.length) {
        const larger = Buffer.allocUnsafeSlow(memory);
        this.#buffer.copy(larger, 0, 0, this.#filled);
        this.#buffer = larger;
      }
      piece.copy(this.#buffer, this.#filled);
    }
    this.#filled += piece.length;
  }
}

/**
 * Reads a body into one buffer. If the client leaves meanwhile, nothing more happens.
 *
 * @param length as the head says; undefined where it does not
 * @param mayHold is told how many bytes there will be with the next piece, and how much memory that takes; says whether to go on after it
 * @param done called once, with what was read; null for nothing
 */
export function gather(
  req: IncomingMessage,
  length: number | undefined,
  mayHold: (bytes: number, memory: number) => boolean,
  done: (body: Buffer | null, gathering: Gathering) => void,
): void {
  const body = new Pieces(length);
  let timer: NodeJS.Timeout | undefined;

  const finish = (gathering: Gathering): true => {
    req.off('readable', read);
    clearTimeout(timer);
    done(body.bytes ?? null, gathering);
    return true;
  };

  /** Returns whether it is over. */
  const read = (): boolean => {
    for (let piece = req.read() as Buffer | null; piece !== null; piece = req.read() as Buffer | null) {
      const goesOn = mayHold(body.filled + piece.length, body.memoryWith(piece.length));
      body.add(piece);
      if (!goesOn) return finish('stopped');
    }
    return (body.filled === length || req.complete) && finish('whole');
  };

  if (read()) return;
  req.on('readable', read);
  timer = setTimeout(() => finish('late'), bodyTimeoutMs);
  req.once('close', () => clearTimeout(timer));
}
