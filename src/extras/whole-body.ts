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

/**
 * Reads a body into one buffer: a client may send it in pieces of a byte, each of which would cost a hundred. If the
 * client leaves meanwhile, nothing more happens.
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
  let body: Buffer | null = null; // a single piece as it is, or a buffer with room for more
  let filled = 0;
  let timer: NodeJS.Timeout | undefined;

  /** Each piece must not copy all that came before it. */
  const memoryFor = (bytes: number): number => {
    if (body === null || bytes <= body.length) return body?.length ?? bytes;
    return length ?? Math.ceil(bytes * 1.5);
  };

  const append = (piece: Buffer, memory: number): void => {
    if (body !== null && memory > body.length) {
      const larger = Buffer.allocUnsafeSlow(memory);
      body.copy(larger, 0, 0, filled);
      body = larger;
    }
    if (body === null) body = piece;
    else piece.copy(body, filled);
    filled += piece.length;
  };

  const finish = (gathering: Gathering): true => {
    req.off('readable', read);
    clearTimeout(timer);
    done(body?.subarray(0, filled) ?? null, gathering);
    return true;
  };

  /** Returns whether it is over. */
  const read = (): boolean => {
    for (let piece = req.read() as Buffer | null; piece !== null; piece = req.read() as Buffer | null) {
      const memory = memoryFor(filled + piece.length);
      const goesOn = mayHold(filled + piece.length, memory);
      append(piece, memory);
      if (!goesOn) return finish('stopped');
    }
    return (filled === length || req.complete) && finish('whole');
  };

  if (read()) return;
  req.on('readable', read);
  timer = setTimeout(() => finish('late'), bodyTimeoutMs);
  req.once('close', () => clearTimeout(timer));
}
