// A relay that makes an upstream of this machine a distant one. Every byte and every end takes half a round trip, and
// what the client sends first waits for the round trip in which a distant server would have accepted the connection.
// Prints its port. SIGUSR2 closes all connections, as an upstream does to idle ones.
//
//   distance.ts TARGET_PORT ROUND_TRIP_MS
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

const [targetPort = '', roundTrip = ''] = process.argv.slice(2);
const roundTripMs = Number(roundTrip);

/** Timers of node's are late by a millisecond; the last moments are waited for in turns of the event loop. */
const timerErrorMs = 2;

/** One direction of a connection: does things in order, each half a round trip after it was said, and none before `openAtMs`. */
class Way {
  readonly #queue: Array<{ readonly dueAtMs: number; readonly action: () => void }> = [];
  readonly #openAtMs: number;

  constructor(openAtMs: number) {
    this.#openAtMs = openAtMs;
  }

  send(action: () => void): void {
    this.#queue.push({ dueAtMs: Math.max(performance.now(), this.#openAtMs) + roundTripMs / 2, action });
    if (this.#queue.length === 1) this.#wait();
  }

  readonly #wait = (): void => {
    const [next] = this.#queue;
    if (next === undefined) return;
    const leftMs = next.dueAtMs - performance.now();
    if (leftMs > timerErrorMs) setTimeout(this.#wait, leftMs - timerErrorMs);
    else if (leftMs > 0) setImmediate(this.#wait);
    else {
      next.action();
      this.#queue.shift();
      this.#wait();
    }
  };
}

const hangUps = new Set<() => void>();
process.on('SIGUSR2', () => { for (const hangUp of hangUps) hangUp(); });

const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
  const target = connect({ port: Number(targetPort), host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  const [there, back] = [new Way(performance.now() + roundTripMs), new Way(0)];
  carry(client, target, there);
  carry(target, client, back);
  const hangUp = (): void => {
    target.destroy();
    back.send(() => { client.end(); });
  };
  hangUps.add(hangUp);
  client.once('close', () => { hangUps.delete(hangUp); });
});
server.listen(0, '127.0.0.1', () => { console.log((server.address() as AddressInfo).port); });

function carry(from: Socket, to: Socket, way: Way): void {
  from.on('data', (piece: Buffer) => { way.send(() => { to.write(piece); }); });
  from.on('end', () => { way.send(() => { to.end(); }); });
  from.on('error', () => { way.send(() => { to.destroy(); }); });
}
