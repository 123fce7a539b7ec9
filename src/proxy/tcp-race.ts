import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { type Socket, type TcpNetConnectOpts, connect } from 'node:net';

/** RFC 8305 section 8, "Connection Attempt Delay". */
const attemptDelayMs = 250;

/** TCP keep-alive starts after this long, so that a dead peer is found without a timeout on silence. */
const tcpKeepAliveMs = 30_000;

/** How much a socket reads ahead, in bytes. Node 20's default is a quarter of it. */
const highWaterMark = 64 * 1024;

/**
 * The addresses of a host, as a function that looks them up. A lookup that is under way serves all who ask: libuv does few at
 * a time, and each can hang for as long as a resolver does not answer.
 *
 * @param hostname a name, or an address without brackets
 * @param family 0 for both
 */
export function addressesOf(hostname: string, family: 0 | 4): () => Promise<LookupAddress[]> {
  let underWay: Promise<LookupAddress[]> | undefined;
  return () => (underWay ??= lookup(hostname, { all: true, family }).finally(() => (underWay = undefined)));
}

/**
 * Connects to the first address that answers (RFC 8305). Node's `autoSelectFamily` gives each but the last 250 ms, and so
 * never reaches what is further away.
 *
 * @param addresses in the resolver's order, at least one
 * @param signal ends all attempts; the promise then stays as it is
 * @throws the first error that tells more than the lack of a route
 */
export function raceTcp(addresses: readonly LookupAddress[], port: number, signal: AbortSignal): Promise<Socket> {
  const left = takingTurns(addresses);
  const running = new Set<Socket>();
  let problem: NodeJS.ErrnoException | undefined;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      for (const socket of running) socket.destroy();
    };
    const tryNext = (): void => {
      clearTimeout(timer);
      const host = left.shift()?.address;
      if (host === undefined) {
        if (running.size > 0) return;
        end();
        return reject(problem);
      }
      const options: TcpNetConnectOpts & { highWaterMark: number } = { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: tcpKeepAliveMs, highWaterMark };
      const socket = connect(options);
      running.add(socket);
      timer = setTimeout(tryNext, attemptDelayMs);
      socket.once('connect', () => {
        running.delete(socket);
        end();
        resolve(socket);
      });
      socket.on('error', (error: NodeJS.ErrnoException) => {
        if (!running.delete(socket)) return; // it won, and has another owner
        if (problem === undefined || problem.code === 'ENETUNREACH') problem = error;
        tryNext();
      });
    };
    signal.addEventListener('abort', end);
    tryNext();
  });
}

/** RFC 8305 section 4: the families alternate, the first one's first. */
export function takingTurns(addresses: readonly LookupAddress[]): LookupAddress[] {
  const turn = (one: LookupAddress): number => addresses.filter(({ family }) => family === one.family).indexOf(one);
  return [...addresses].sort((one, other) => turn(one) - turn(other));
}
