import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Piece } from './locked-key.ts';

export type WriteCallback = (error?: Error | null) => void;

/** A socket's own `_write`, see `stream.Writable`. The encoding of bytes is `buffer`: with any other, node aborts. */
export type SocketWrite = (piece: Piece, encoding: BufferEncoding, done: WriteCallback) => void;

/** How often a request may be probed for, each time with another byte of its first line: `POST / HTTP/1.1` has more, and no secret. */
const maxProbes = 8;

/** The parts of a TLSSocket that have no public name. Node's own `net` and `tls` rely on them. */
interface TlsHandle {
  /** Bytes that are encrypted and not in the kernel yet. What is encrypted stays here until a later turn. */
  readonly writeQueueSize: number;
  /** The TCP connection below, and how much has arrived on it. */
  readonly _parent: { readonly bytesRead: number };
}

/**
 * Tells whether SSL_write would encrypt at once what is written to a socket. Always true without TLS.
 *
 * With TLS 1.3 it does not while only a part of a session ticket or another handshake message has arrived, and node keeps
 * what was written in ordinary memory until the rest comes. Nothing but SSL_write shows this state, so it gets a byte without
 * a secret first. Servers cope: browsers did the same against BEAST. Mostly no such probe is needed: parts of handshake
 * messages are in records of their own (RFC 8446 section 5.1), and while the content of the records that node has delivered
 * accounts for every byte that arrived since the last probe, there was no other record.
 *
 * A probe while half a record is there makes the account wrong, and the next request is probed for as well. An upstream could
 * make two such errors cancel out; the write is then found not to be encrypted, and the socket is destroyed.
 */
export class TlsReadiness {
  readonly #socket: TLSSocket | undefined;
  readonly #recordOverheadBytes: number;
  /** Bytes that had arrived when the last probe was encrypted, and records with content since. */
  #accountedFor = Number.NaN;

  /** @param socket its handshake is done */
  constructor(socket: Socket) {
    this.#socket = socket instanceof TLSSocket ? socket : undefined;
    this.#recordOverheadBytes = this.#socket === undefined ? 0 : recordOverheadOf(this.#socket);
  }

  /** To be told the size of each piece that the socket pushes: node pushes the content of each record by itself. */
  delivered(bytes: number): void {
    this.#accountedFor += bytes + this.#recordOverheadBytes;
  }

  isSure(): boolean {
    return this.#socket === undefined || handleOf(this.#socket)?._parent.bytesRead === this.#accountedFor;
  }

  /**
   * Writes bytes of `head` until it is sure; waits for the rest of a split message, however long that takes.
   *
   * @param write the socket's own
   * @param head what it begins with is no secret
   * @param done gets what is left of the head, once `isSure` or after so many tries; or why it cannot be written
   */
  probe(write: SocketWrite, head: string, done: (error: Error | null, rest: string) => void, probes = 0): void {
    const handle = this.#socket === undefined ? null : handleOf(this.#socket);
    if (handle === null || probes === maxProbes || this.isSure()) return done(null, head);
    const arrived = handle._parent.bytesRead;
    let isEncrypted = false;
    isEncrypted = isTakenAtOnce(this.#socket as TLSSocket, () =>
      write(head.slice(0, 1), 'latin1', (error) => {
        if (error !== undefined && error !== null) return done(error, head);
        if (isEncrypted && handle._parent.bytesRead === arrived) this.#accountedFor = arrived;
        this.probe(write, head.slice(1), done, probes + 1);
      }),
    );
  }
}

/**
 * Whether an idle socket took at once what `write` writes to it: TLS has encrypted it, or the kernel has it.
 *
 * @param write gets a function to call as soon as node says that the write is done
 */
export function isTakenAtOnce(socket: Socket, write: (taken: () => void) => void): boolean {
  const handle = socket instanceof TLSSocket ? handleOf(socket) : null;
  const queued = handle?.writeQueueSize ?? 0;
  let isTaken = false;
  write(() => (isTaken = true));
  return handle === null ? isTaken : handle.writeQueueSize > queued;
}

/**
 * How much longer a record without padding is than its content, in bytes (RFC 8446 section 5.2, 5246 section 6.2.3.3, 7905).
 * Where this is wrong, each request is probed for.
 */
function recordOverheadOf(socket: TLSSocket): number {
  const [header, contentType, tag, explicitNonce] = [5, 1, 16, 8];
  if (socket.getProtocol() === 'TLSv1.3') return header + contentType + tag;
  return socket.getCipher().name.includes('CHACHA20') ? header + tag : header + explicitNonce + tag;
}

function handleOf(socket: TLSSocket): TlsHandle | null {
  return (socket as unknown as { _handle: TlsHandle | null })._handle;
}
