import type { IncomingMessage } from 'node:http';
import { contentLength, hasField } from '../gate/raw-headers.ts';

/** A body as undici takes it: whole, in pieces as they come, or none. */
export type Body = Buffer | null | AsyncIterable<Buffer>;

/** A request's body on its way up. */
export interface Upload {
  /** Calls back as soon as the first bytes are here, or the end: undici sends the head with them, never before. */
  whenReadable(callback: () => void): void;
  /** Hands over the body. To be called once, when it is readable. */
  take(): Body;
}

/** A body that a client is sending. */
export class ClientUpload implements Upload {
  readonly #req: IncomingMessage;

  constructor(req: IncomingMessage) {
    this.#req = req;
  }

  whenReadable(callback: () => void, isLate = false): void {
    const req = this.#req;
    if (req.destroyed) return;
    if (req.readableLength > 0 || req.complete) return callback();
    const lookAgain = (): void => this.whenReadable(callback, true);
    // What came with the head is parsed by the next tick. To listen for 'readable' costs more than all else here.
    if (isLate) req.once('readable', lookAgain);
    else process.nextTick(lookAgain);
  }

  /** A body that is here already goes out in one write with the head. A chunked one stays chunked. */
  take(): Body {
    return hasWholeBody(this.#req) ? wholeBody(this.#req) : this.takePieces(null);
  }

  /** @param first what was read of the body already */
  takePieces(first: Buffer | null): AsyncIterable<Buffer> {
    return pieces(this.#req, first);
  }
}

/** Whether all of a body is here. Node says that a request is complete only after its last bytes were handed out. */
function hasWholeBody({ complete, rawHeaders, readableLength }: IncomingMessage): boolean {
  const length = contentLength(rawHeaders);
  return length === undefined ? complete && !hasField(rawHeaders, 'transfer-encoding') : length === readableLength;
}

/** A body that has arrived; null for none. Node 26's `read()` returns one chunk; older versions return everything buffered. */
function wholeBody(req: IncomingMessage): Buffer | null {
  const chunks: Buffer[] = [];
  for (let chunk = req.read() as Buffer | null; chunk !== null; chunk = req.read() as Buffer | null) chunks.push(chunk);
  const [first = null] = chunks;
  return chunks.length <= 1 ? first : Buffer.concat(chunks);
}

/**
 * The pieces of a body as they come. An early answer ends the iteration. What is left of the upload is then read and
 * dropped: closing on a client that is still sending would reset the connection and take the answer from it.
 */
async function* pieces(req: IncomingMessage, first: Buffer | null): AsyncGenerator<Buffer> {
  try {
    if (first !== null) yield first;
    yield* req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  } finally {
    req.resume();
  }
}
