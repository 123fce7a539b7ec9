import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { buildConnector } from 'undici';
import type { LockedKey, Piece } from './locked-key.ts';
import { TlsReadiness, isEncryptedBy } from './tls-readiness.ts';

/**
 * The one place where the key meets a socket.
 *
 * undici builds a request head as a string, and everything in that string stays in V8's heap, many times over. So undici
 * gets a random placeholder, and a socket whose `write` copies the head into locked memory with the key in its place and
 * writes that as ONE buffer, which SSL_write encrypts in place. Two writes would not do: a busy or corked socket joins
 * them by writev, and node's TLS copies what it joins into ordinary memory.
 */
export interface Injection {
  /** Stands for the key in the headers given to undici. Random and never sent, so no client can know it. */
  readonly placeholder: string;
  /** Wraps an undici connector so that its sockets inject the key. */
  connector(connect: buildConnector.connector): buildConnector.connector;
  /** Ends the key's use: it is wiped, and a request that was not written yet fails with KEY_EXPIRED. */
  end(): void;
}

const nothing = new Uint8Array(0);

/** Emitted on a socket right before a request's head is written to it. */
export const requestBegins = Symbol('request begins');

/** The request was not sent. */
class BusySocketError extends Error {
  readonly code = 'UPSTREAM_BUSY';
}

/** The request was not sent: there is no key, or it was wiped while the request waited for a connection. */
export class KeyExpiredError extends Error {
  readonly code = 'KEY_EXPIRED';

  constructor() {
    super('the key has expired');
  }
}

/** @param key may be replaced or wiped at any time; each head is written with the one of that moment */
export function injectionOf(key: LockedKey): Injection {
  const placeholder = randomBytes(32).toString('hex');
  // One scratch area serves every socket, because SSL_write has read it when it returns. In the clear, libuv may
  // keep the pointer until the write is done; until then the area is that socket's.
  let scratchOwner: { readonly socket: Socket } | undefined;
  const giveBack = (ended: typeof scratchOwner): void => {
    if (scratchOwner !== ended) return;
    scratchOwner = undefined;
    key.clearScratch();
  };

  const writeHead: WriteHead = (socket, plain, head, pieces) => {
    const isBusy = socket.writableLength > 0 || socket.writableCorked > 0;
    if (isBusy || scratchOwner?.socket.destroyed === false) {
      socket.destroy(new BusySocketError('the socket was not idle, so the key was not written to it'));
      return false;
    }
    if (key.length === 0) {
      socket.destroy(new KeyExpiredError());
      return false;
    }
    socket.emit(requestBegins);
    if (socket.destroyed) return false; // it had ended, and its owner has found out
    const { first, rest } = key.inject(head, placeholder, pieces);
    const ours = (scratchOwner = { socket });
    let wantsMore = true;
    const isEncrypted = isEncryptedBy(socket, () => (wantsMore = plain.write(first, () => giveBack(ours))));
    if (socket instanceof TLSSocket || socket.writableLength === 0) giveBack(ours);
    if (!isEncrypted) {
      socket.destroy(new BusySocketError('OpenSSL did not take the head with the key, so it is not sent'));
      return false;
    }
    return rest.length === 0 ? wantsMore : writeAll(plain, rest);
  };

  return {
    placeholder,
    end: () => {
      // What is left of a head that is being written would go out wiped.
      if (scratchOwner !== undefined && scratchOwner.socket.writableLength > 0) scratchOwner.socket.destroy(new KeyExpiredError());
      key.end();
    },
    connector: (connect) => (options, callback) =>
      connect(options, (error, socket) => {
        if (error !== null || socket === null) return callback(error ?? new Error('no socket'), null);
        interceptHeadWrites(socket as Socket, writeHead, (text) => text.includes(placeholder));
        // Node 26 keeps a copy, in ordinary memory, of what is written during 'secureConnect'.
        setImmediate(() => callback(null, socket as Socket));
        return undefined;
      }),
  };
}

/** A socket's own methods, from before `interceptHeadWrites`. */
interface Plain {
  write(piece: string, encoding: BufferEncoding): boolean;
  write(piece: Uint8Array, done?: (error?: Error | null) => void): boolean;
  cork(): void;
  uncork(): void;
}

type WriteHead = (socket: Socket, plain: Plain, head: string, pieces: Piece[]) => boolean;

/**
 * Gives a socket the `write` described above.
 *
 * undici writes text (the head, the length of a chunk) before the bytes it belongs to, between cork and uncork. The text
 * is held until those bytes come or the socket is uncorked, and goes out with them.
 */
function interceptHeadWrites(socket: Socket, writeHead: WriteHead, isHead: (text: string) => boolean): void {
  const plain: Plain = {
    write: socket.write.bind(socket) as Plain['write'],
    cork: socket.cork.bind(socket),
    uncork: socket.uncork.bind(socket),
  };
  const readiness = new TlsReadiness(socket);
  let corked = false;
  let held: string[] = [];
  /** What was written after a head that waits for the socket to be idle and ready. */
  let behindHead: Piece[] | undefined;

  const flush = (last: Uint8Array[]): boolean => {
    const [head, ...following] = held;
    if (head === undefined) return writeAll(plain, last);
    held = [];
    const pieces = [...following, ...last];
    if (!isHead(head)) return writeAll(plain, [head, ...pieces]); // undici writes chunk lengths as text too
    // undici reuses a socket as soon as its answer is complete, when the last request may not have left node yet.
    const isReady = socket.writableLength === 0 && readiness.isSure();
    return isReady ? writeHead(socket, plain, head, pieces) : writeOnceReady(head, pieces);
  };

  const writeOnceReady = (head: string, pieces: Piece[]): boolean => {
    behindHead = [];
    const goOn = (head: string | undefined): void => {
      const rest = behindHead ?? [];
      behindHead = undefined;
      if (head === undefined) return; // the socket has ended, and undici knows
      if (readiness.isSure()) writeHead(socket, plain, head, pieces);
      else socket.destroy(new BusySocketError('the TLS connection was not ready, so the key was not written to it'));
      if (rest.length > 0) writeAll(plain, rest);
      socket.emit('drain');
    };
    plain.write(nothing, (error) => (error !== undefined && error !== null ? goOn(undefined) : readiness.probe(probe, head, goOn)));
    return false;
  };
  const probe = (text: string, done: (error?: Error | null) => void): void => void plain.write(Buffer.from(text, 'latin1'), done);

  socket.cork = () => {
    corked = true;
  };
  socket.uncork = () => {
    corked = false;
    flush([]);
  };
  socket.write = (piece: Piece): boolean => {
    if (behindHead !== undefined) {
      behindHead.push(piece);
      return false;
    }
    if (typeof piece !== 'string') return flush([piece]);
    held.push(piece);
    return corked || flush([]);
  };
}

/** Writes pieces without the key, in one go. Returns false when the caller should wait for 'drain', like `write`. */
function writeAll(plain: Plain, pieces: Piece[]): boolean {
  let wantsMore = true;
  plain.cork();
  for (const piece of pieces) wantsMore = typeof piece === 'string' ? plain.write(piece, 'latin1') : plain.write(piece);
  plain.uncork();
  return wantsMore;
}
