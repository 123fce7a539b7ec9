import { once } from 'node:events';
import { spawn } from 'node:child_process';
import http from 'node:http';
import { cleanUp } from './cleanup.ts';
import { shell, type DaemonOptions } from './daemon.ts';

/** A socket that this process holds for others, as a service manager does: it never accepts on it. */
export interface HeldSocket {
  readonly fd: number;
  readonly port: number;
}

interface TcpHandle {
  readonly fd: number;
  bind(address: string, port: number): number;
  getsockname(to: { port?: number }): void;
  close(): void;
}

/** Binds a TCP socket to 127.0.0.1 and leaves it at that. net.Server cannot: it listens and accepts. */
export function boundSocket(): HeldSocket {
  const binding = (process as unknown as { binding(name: 'tcp_wrap'): { TCP: new (type: number) => TcpHandle; constants: { SERVER: number } } }).binding('tcp_wrap');
  const handle = new binding.TCP(binding.constants.SERVER);
  const bound: { port?: number } = {};
  if (handle.bind('127.0.0.1', 0) !== 0) throw new Error('cannot bind');
  handle.getsockname(bound);
  cleanUp(() => handle.close());
  return { fd: handle.fd, port: bound.port ?? 0 };
}

/** The same, listening: a child of ours made it listen, which holds for all who share the socket. */
export async function listeningSocket(): Promise<HeldSocket> {
  const socket = boundSocket();
  const child = spawn(process.execPath, ['-e', 'require("net").createServer().listen({ fd: 3 }, () => process.exit())'], { stdio: ['ignore', 'ignore', 'inherit', socket.fd] });
  const [code] = (await once(child, 'exit')) as [number];
  if (code !== 0) throw new Error('cannot listen');
  return socket;
}

/** How a service manager starts the daemon: with `descriptor` as its descriptor 3, and the two variables. */
export function activated(descriptor: number, variables = 'LISTEN_FDS=1 LISTEN_PID=$$'): Pick<DaemonOptions, 'prefix' | 'descriptor3'> {
  return { descriptor3: descriptor, prefix: shell(`export ${variables}`) };
}

/** Clients that ask again and again until they are told to stop. */
export interface Crowd {
  /** Requests answered so far. */
  readonly answered: number;
  /** Resolves, when all have stopped, with what went otherwise than a 200, and how often. */
  stop(): Promise<Record<string, number>>;
}

/** @param keepsConnections each client keeps its connection while it is allowed to; else each request has a new one */
export function crowd(port: number, { clients = 16, keepsConnections = false } = {}): Crowd {
  const agent = new http.Agent({ keepAlive: keepsConnections, maxSockets: Number.POSITIVE_INFINITY });
  const failures: Record<string, number> = {};
  let answered = 0;
  let isOver = false;
  const askOnce = (): Promise<void> => new Promise((resolve) => {
    const done = (failure?: string): void => {
      if (failure === undefined) answered++;
      else failures[failure] = (failures[failure] ?? 0) + 1;
      resolve();
    };
    const body = '{"input":"x"}';
    const req = http.request({ host: '127.0.0.1', port, agent, method: 'POST', path: '/v1/responses', headers: { 'content-length': body.length } });
    req.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
    req.on('response', (res) => {
      res.on('error', () => {});
      res.on('close', () => done(res.statusCode === 200 && res.complete ? undefined : `status ${res.statusCode}${res.complete ? '' : ', cut'}`));
      res.resume();
    });
    req.end(body);
  });
  const work = async (): Promise<void> => {
    while (!isOver) await askOnce();
  };
  const all = Promise.all(Array.from({ length: clients }, work));
  return {
    get answered() {
      return answered;
    },
    async stop() {
      isOver = true;
      await all;
      agent.destroy();
      return failures;
    },
  };
}
