import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { buildConnector } from 'undici';
import type { LockedKey, Piece } from './locked-key.ts';

/**
 * The one place where the key meets a socket.
 *
 * undici composes a request head as a string, so whatever stands in it stays in V8's heap, many times over. It is given
 * a random placeholder instead, and a socket whose `write` puts the key in its place, in locked memory, and writes that
 * as ONE buffer: SSL_write then encrypts it where it stands. Two writes at once would not do, for a busy or corked
 * socket joins them by writev, and node's TLS copies what it joins into ordinary memory.
 */
export interface Injection {
  /** Stands for the key in the headers given to undici. Random, and never sent: nobody else can know it. */
  readonly placeholder: string;
  /** Wraps a connector of undici so that its sockets inject the key. */
  connector(connect: buildConnector.connector): buildConnector.connector;
}

const nothing = new Uint8Array(0);

/** Emitted on a socket when a request's head is about to be written to it. */
export const requestBegins = Symbol('request begins');

/** Nothing was sent. */
class BusySocketError extends Error {
  readonly code = 'UPSTREAM_BUSY';
}

export function injectionOf(key: LockedKey): Injection {
  const placeholder = randomBytes(32).toString('hex');
  // One scratch area serves every socket, for SSL_write has read it when it returns. In the clear, libuv may
  // keep the pointer until the write is done; until then the area is that socket's.
  let lentTo: Socket | undefined;

  const writeHead: WriteHead = (socket, plain, head, pieces) => {
    // The length of a chunk is text as well.
    if (!head.includes(placeholder)) return writeAll(plain, [head, ...pieces]);
    const isBusy = socket.writableLength > 0 || socket.writableCorked > 0;
    if (isBusy || (lentTo !== undefined && !lentTo.destroyed)) {
      socket.destroy(new BusySocketError('the socket was not idle, so the key was not written to it'));
      return false;
    }
    socket.emit(requestBegins);
    const { first, rest } = key.inject(head, placeholder, pieces);
    lentTo = socket instanceof TLSSocket ? undefined : socket;
    const wantsMore = plain.write(first, () => {
      if (lentTo === socket) lentTo = undefined;
    });
    return rest.length === 0 ? wantsMore : writeAll(plain, rest);
  };

  return {
    placeholder,
    connector: (connect) => (options, callback) =>
      connect(options, (error, socket) => {
        if (error !== null || socket === null) return callback(error ?? new Error('no socket'), null);
        carryHeads(socket as Socket, writeHead, (text) => text.includes(placeholder));
        // Node 26 does not yet write from within 'secureConnect': it keeps what it is given, in ordinary memory.
        setImmediate(() => callback(null, socket as Socket));
        return undefined;
      }),
  };
}

/** The writing half of a socket, as it was before we put ours in its place. */
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
 * undici writes text (the head, the length of a chunk) before the bytes it belongs to, between cork and uncork. So the
 * text is held until those bytes come, or until the socket is uncorked, and goes out with them.
 */
function carryHeads(socket: Socket, writeHead: WriteHead, isHead: (text: string) => boolean): void {
  const plain: Plain = {
    write: socket.write.bind(socket) as Plain['write'],
    cork: socket.cork.bind(socket),
    uncork: socket.uncork.bind(socket),
  };
  let corked = false;
  let held: string[] = [];
  /** What comes behind a head that waits for the socket to be idle. */
  let behindHead: Piece[] | undefined;

  const flush = (last: Uint8Array[]): boolean => {
    const [head, ...following] = held;
    if (head === undefined) return writeAll(plain, last);
    held = [];
    const pieces = [...following, ...last];
    // undici lends a socket again once its answer is there, though the request before may not have left node yet.
    return socket.writableLength > 0 && isHead(head) ? writeOnceIdle(head, pieces) : writeHead(socket, plain, head, pieces);
  };

  const writeOnceIdle = (head: string, pieces: Piece[]): boolean => {
    behindHead = [];
    plain.write(nothing, (error) => {
      const rest = behindHead ?? [];
      behindHead = undefined;
      if (error !== undefined && error !== null) return; // the socket is gone, and undici knows
      writeHead(socket, plain, head, pieces);
      if (rest.length > 0) writeAll(plain, rest);
      socket.emit('drain');
    });
    return false;
  };

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

/** Writes ordinary pieces; several go out together. Returns false when the socket wants a pause, like `write`. */
function writeAll(plain: Plain, pieces: Piece[]): boolean {
  let wantsMore = true;
  plain.cork();
  for (const piece of pieces) wantsMore = typeof piece === 'string' ? plain.write(piece, 'latin1') : plain.write(piece);
  plain.uncork();
  return wantsMore;
}
