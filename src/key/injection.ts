import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { CodedError } from '../run/failure.ts';
import type { LockedKey, Piece } from './locked-key.ts';
import { type SocketWrite, isTakenAtOnce } from './tls-readiness.ts';

/**
 * The one place where the key meets a socket.
 *
 * undici builds a request head as a string, and everything in that string stays in V8's heap, many times over. So undici
 * gets a random placeholder. What it writes is copied into locked memory, with the key in the placeholder's stead, and
 * leaves as ONE buffer, which SSL_write encrypts in place. Two writes would not do: a busy or corked socket joins them by
 * writev, and node's TLS copies what it joins into ordinary memory.
 */
export class Injection {
  /** Stands for the key in the headers given to undici. Random and never sent, so no client can know it. */
  readonly placeholder = randomBytes(32).toString('hex');
  readonly #key: LockedKey;

  /** @param key may be replaced or wiped at any time; each head is written with the one of that moment */
  constructor(key: LockedKey) {
    this.#key = key;
  }

  /**
   * Writes the beginning of a request. When this returns or throws, the key is in one place again.
   *
   * @param socket nothing is being written to it, and it is sure to encrypt at once (see `TlsReadiness`)
   * @param write the socket's own, which must not be called before `done` is
   * @param head text with the placeholder
   * @param pieces what follows it
   * @param done called when the buffer has left node, with those pieces that had no room in it and have to follow
   * @throws KEY_EXPIRED: nothing was sent; or another error: the socket must be destroyed, for it may hold the buffer
   */
  write(socket: Socket, write: SocketWrite, head: string, pieces: readonly Piece[], done: (error: Error | null | undefined, rest: Piece[]) => void): void {
    const key = this.#key;
    if (key.length === 0) throw new CodedError('KEY_EXPIRED', 'the key has expired');
    const { first, rest } = key.inject(head, this.placeholder, pieces);
    // In the clear, libuv keeps a pointer to what the kernel does not take at once. The caller's destroy takes it away.
    const isTaken = isTakenAtOnce(socket, (taken) =>
      write(first, 'buffer' as BufferEncoding, (error) => {
        taken();
        done(error, rest);
      }),
    );
    key.clearScratch();
    if (!isTaken) throw new CodedError('UPSTREAM_BUSY', 'the connection did not take the head with the key at once');
  }
}
