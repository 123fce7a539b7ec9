import net from 'node:net';
import { cleanUp } from './cleanup.ts';
import { Changing } from './wait.ts';

/** A connection that the relay accepted. Its bytes are opaque to it: what passes is TLS. */
export interface RelayedConnection {
  readonly accepted: net.Socket;
  readonly index: number;
  /** Whether the daemon has ended it. */
  readonly ended: boolean;
  /** When the one who connected last sent something, as performance.now() has it. */
  readonly heardAtMs: number;
  /** When the target's FIN was in the kernel of the one who connected; undefined before. */
  readonly finishedAtMs: number | undefined;
}

/** Relays TCP between the daemon and an upstream, below TLS: it can hold connections back, and cut them at points the upstream cannot. */
export class Relay {
  readonly port: number;
  readonly connections: RelayedConnection[] = [];
  readonly #changing = new Changing();
  readonly #held: Array<() => void> = [];
  readonly #target: number;
  #holds: boolean;

  constructor(server: net.Server, target: number, holds: boolean) {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the relay does not listen');
    this.port = address.port;
    this.#target = target;
    this.#holds = holds;
    server.on('connection', (accepted) => this.#accept(accepted));
  }

  /** Passes on everything from now on, also what is held back. */
  release(): void {
    this.#holds = false;
    for (const join of this.#held.splice(0)) join();
  }

  async nextConnection(index = 0): Promise<RelayedConnection> {
    return this.#changing.when(() => this.connections[index], () => `connection ${index} at the relay`);
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    await this.#changing.when(() => (condition() ? true : undefined), () => what);
  }

  #accept(accepted: net.Socket): void {
    const connection: RelayedConnection & { ended: boolean; heardAtMs: number; finishedAtMs: number | undefined } = {
      accepted, index: this.connections.length, ended: false, heardAtMs: 0, finishedAtMs: undefined,
    };
    this.connections.push(connection);
    const end = (): void => {
      connection.ended = true;
      this.#changing.changed();
    };
    accepted.on('end', end).on('close', end).on('error', end);
    accepted.on('data', () => {
      connection.heardAtMs = performance.now();
    });
    // A socket has finished when shutdown(2) has returned, and over loopback the other end has the FIN by then.
    accepted.once('finish', () => {
      connection.finishedAtMs = performance.now();
      this.#changing.changed();
    });
    cleanUpSockets(accepted);
    const waiting: Buffer[] = [];
    const keep = (data: Buffer): void => void waiting.push(data);
    // Read from the beginning, or its end would go unnoticed.
    accepted.on('data', keep);
    const join = (): void => {
      if (connection.ended) return;
      const onward = net.connect({ port: this.#target, host: '127.0.0.1', noDelay: true });
      cleanUpSockets(onward);
      accepted.setNoDelay(true).off('data', keep);
      for (const data of waiting) onward.write(data);
      accepted.pipe(onward).pipe(accepted);
      accepted.on('close', () => onward.destroy());
      onward.on('error', () => accepted.resetAndDestroy()).on('close', () => accepted.destroySoon());
    };
    if (this.#holds) this.#held.push(join);
    else join();
    this.#changing.changed();
  }
}

const open = new Set<net.Socket>();

function cleanUpSockets(socket: net.Socket): void {
  open.add(socket);
  socket.on('close', () => open.delete(socket));
  socket.on('error', () => {});
}

/** Starts a relay to a port of 127.0.0.1. `holds`: connections are accepted, and nothing of them passes before `release()`. */
export async function startRelay(target: number, options: { readonly holds?: boolean } = {}): Promise<Relay> {
  const server = net.createServer({ allowHalfOpen: false });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const relay = new Relay(server, target, options.holds === true);
  cleanUp(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of open) socket.destroy();
    await closed;
  });
  return relay;
}
