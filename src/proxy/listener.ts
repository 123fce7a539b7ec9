import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES, createServer } from 'node:http';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import { type Refusal, type Rules, headTooLarge, judge, maxHeadBytes } from '../gate/gate.ts';
import type { RefusalLog } from '../run/refusal-log.ts';
import { Failure, reason } from '../run/failure.ts';
import type { Accounts, Denial, RequestAccount } from '../oversight/oversight.ts';
import { Connection, Connections, lingerMs } from './connections.ts';
import { Exchange, type ForwardContext } from './exchange.ts';
import { hasField, lengthOf } from './headers.ts';
import { type Problem, answerProblem, rawProblem } from './problem.ts';

/** The only address there is: nothing beyond this machine can reach us. */
const address = '127.0.0.1';

/** Most that node reads at once, so that this much of a body may have come with a head. */
const readBytes = 64 * 1024;

/** Connections that may wait to be accepted, as far as the system allows. */
const backlog = 4096;

/** A head must be complete this soon after its connection, or its first byte. */
const headTimeoutMs = 10_000;

/** How often heads are looked at for that; node's own 30 s would keep a slow peer three times as long as allowed. */
const headCheckIntervalMs = 1_000;

/** How long a client may keep a connection between two requests. Longer than clients do, so that they close first. */
const idleConnectionMs = 120_000;

const tcpKeepAliveMs = 30_000;

export interface ServerOptions {
  /** 0 for a port of the system's choice. */
  port: number;
  maxConnections: number;
  rules: Omit<Rules, 'port'>;
  /** Asks the kernel who is at the other end; undefined where nobody wants to know. */
  peerUidOf: ((socket: Socket) => number | undefined) | undefined;
  forwarding: ForwardContext;
  refusals: RefusalLog;
  /** Records and limits what is asked; undefined where nothing is. */
  accounts: Accounts | undefined;
  /** A client asked for GET /shutdown, and has its answer. */
  onShutdownRequest: () => void;
}

/** A request, and what belongs to it. */
interface Asked {
  readonly connection: Connection;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly account: RequestAccount | undefined;
}

const isStopping: Problem = { status: 503, code: 'shutting_down', message: 'The daemon is stopping.' };

/** The listener: asks the gate, then forwards. */
export interface ProxyServer {
  readonly port: number;
  /** Stops listening, lets running answers finish for up to `graceMs`, then closes everything. */
  stop(graceMs: number): Promise<void>;
  /** Closes everything at once; running answers end broken. */
  cut(): void;
}

/** @throws {Failure} when the port cannot be bound */
export async function listen(options: ServerOptions): Promise<ProxyServer> {
  const server = createServer({
    maxHeaderSize: maxHeadBytes,
    headersTimeout: headTimeoutMs,
    connectionsCheckingInterval: headCheckIntervalMs,
    requestTimeout: 0, // an upload may take its time
    keepAliveTimeout: idleConnectionMs,
    requireHostHeader: false, // the gate says more about it
    insecureHTTPParser: false,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: tcpKeepAliveMs,
  });
  // Node drops what exceeds its own count without a word; the gate counts instead.
  server.maxHeadersCount = 0;

  await bind(server, options.port);
  const { port } = server.address() as AddressInfo;
  const rules: Rules = { ...options.rules, port };
  const connections = new Connections(options.maxConnections);
  let stopping = false;

  /** Once stopping, connections stay open for as long as answers are running: whoever asks meanwhile is told. */
  const closeWhenDone = (): void => {
    if ([...connections].some(({ isBusy }) => isBusy)) return;
    for (const connection of connections) connection.close();
  };

  const begin = ({ peerUid }: Connection, req?: IncomingMessage): RequestAccount | undefined =>
    options.accounts?.begin({ uid: peerUid, method: req?.method, target: req?.url, rawHeaders: req?.rawHeaders ?? [] });

  const refuse = ({ connection, req, res, account }: Asked, refusal: Refusal | Denial): void => {
    const rule = 'rule' in refusal ? refusal.rule : refusal.code;
    account?.refuse(refusal.status, rule);
    options.refusals.note(refusal.code, `${req.method} ${pathOf(req)}${rule === refusal.code ? '' : ` (${rule})`}`);
    // Who waits for a 100 may send its next request instead of a body. We could not tell which it is.
    if (('closes' in refusal && refusal.closes === true) || hasField(req.rawHeaders, 'expect')) return closeWith(connection, refusal, account);
    answerProblem(res, refusal, account?.fields);
    discardRest(req, res);
  };

  const forward = (asked: Asked, expectsContinue: boolean): void => {
    const { connection, req, res, account } = asked;
    const denial = account?.judgeHead(req.rawHeaders, connection.isBusy);
    if (denial !== undefined) return refuse(asked, denial);
    if (expectsContinue) res.writeContinue();
    const exchange = new Exchange(req, res, options.forwarding, account);
    res.once('close', () => {
      connection.exchangeEnded(exchange);
      if (stopping && !connection.isBusy) connection.close();
    });
    discardRest(req, res);
    connection.enqueue(exchange);
  };

  const shutdown = (asked: Asked): void => {
    const { req, res } = asked;
    res.shouldKeepAlive = false;
    res.once('close', options.onShutdownRequest);
    req.socket.once('close', options.onShutdownRequest); // behind an exchange whose client left, the answer's turn never comes
    answerStatus(asked, 200, 'shutting_down');
  };

  const handle = (req: IncomingMessage, res: ServerResponse, expectsContinue = false): void => {
    const connection = connections.of(req.socket);
    if (connection === undefined || connection.isCondemned) return;
    const account = begin(connection, req);
    const asked: Asked = { connection, req, res, account };
    const read = connection.bytesOfHead ?? 0; // most heads are far too small for the rest of the question
    if (read > maxHeadBytes && read > maxHeadBytes + mostBodyRead(req)) return refuse(asked, headTooLarge);
    connection.follow(req);
    if (hasField(req.rawHeaders, 'upgrade')) {
      // Node drops what came behind such a request in the same packet, and would take what comes next for a request.
      connection.condemn();
      res.shouldKeepAlive = false;
    }
    const verdict = judge(factsOf(req, connection), rules);
    if (verdict.action === 'refuse') return refuse(asked, verdict.refusal);
    if (stopping) {
      account?.refuse(isStopping.status, isStopping.code);
      return closeWith(connection, isStopping, account);
    }
    if (verdict.action === 'health') answerStatus(asked, 200, 'ok');
    else if (verdict.action === 'shutdown') shutdown(asked);
    else forward(asked, expectsContinue);
  };

  server.on('connection', (socket) => {
    connections.add(new Connection(socket, options.peerUidOf?.(socket)));
    socket.once('close', () => stopping && closeWhenDone());
  });
  server.on('request', (req, res) => handle(req, res));
  server.on('checkContinue', (req, res) => handle(req, res, true));
  server.on('checkExpectation', (req, res) => handle(req, res));
  server.on('connect', (req, socket) => {
    // Node has taken its own listeners off: without this one a reset would end the daemon.
    socket.on('error', () => {});
    const connection = connections.of(socket as Socket);
    if (connection === undefined || connection.isCondemned) return;
    const verdict = judge(factsOf(req, connection), rules);
    if (verdict.action !== 'refuse') throw new Error('the gate admitted a CONNECT');
    const account = begin(connection, req);
    account?.refuse(verdict.refusal.status, verdict.refusal.code);
    options.refusals.note(verdict.refusal.code, `CONNECT ${pathOf(req)}`);
    // Among them the one for 'drain': an answer that is running could not go on.
    if (connection.isBusy) socket.destroy();
    else closeWith(connection, verdict.refusal, account);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const connection = connections.of(socket as Socket);
    if (connection === undefined || !socket.writable || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    if (connection.isCondemned) return; // the rest of what was not HTTP
    const hasLeft = error.code === 'HPE_INVALID_EOF_STATE';
    // In the middle of its next request. Those before it are cancelled, as if it had left between two.
    if (hasLeft && connection.isAnswering) return void socket.destroy();
    const { asking } = connection;
    if (asking === undefined && connection.isMidRequest) return connection.closeWith(''); // it was refused, and breaks afterwards
    const problem = unparsable(error);
    const account = asking === undefined ? begin(connection) : asking.account;
    if (asking === undefined || (!hasLeft && asking.unanswered)) account?.refuse(problem.status, problem.code);
    options.refusals.note(problem.code, error.code ?? '');
    closeWith(connection, problem, account);
  });

  const cut = (): void => {
    for (const connection of connections) connection.cut();
  };

  return {
    port,
    cut,
    stop(graceMs) {
      stopping = true;
      // Not http's own `close`: that one also closes idle connections, see `closeWhenDone`.
      const stopped = new Promise<void>((resolve) => NetServer.prototype.close.call(server, () => resolve()));
      for (const connection of connections) connection.announceClose();
      closeWhenDone();
      const deadline = setTimeout(() => {
        options.accounts?.stop();
        cut();
      }, graceMs);
      return stopped.finally(() => clearTimeout(deadline));
    },
  };
}

function bind(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const hint = error.code === 'EACCES' ? 'choose a --port above 1023, or none' : 'choose another --port, or none';
      reject(new Failure(`cannot bind ${address}:${port}: ${reason(error)}`, { hint }));
    });
    server.listen({ host: address, port, backlog }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

function factsOf(req: IncomingMessage, { peerUid }: Connection): Parameters<typeof judge>[0] {
  return { httpVersion: req.httpVersion, method: req.method ?? '', target: req.url ?? '', rawHeaders: req.rawHeaders, peerUid };
}

/** What node:http could not parse, in the words of a status. */
function unparsable({ code }: NodeJS.ErrnoException): Problem {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return headTooLarge;
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, code: 'request_timeout', message: `A request head must be complete within ${headTimeoutMs / 1000} seconds.` };
    default:
      return { status: 400, code: 'bad_request', message: 'This is not an HTTP/1.1 request.' };
  }
}

/** Ends a connection with an answer. */
function closeWith(connection: Connection, problem: Problem, account: RequestAccount | undefined): void {
  connection.closeWith(rawProblem(problem, STATUS_CODES[problem.status] ?? '', account?.fields));
}

/** Most of a request's body that can have come in the same read as the end of its head, in bytes. */
function mostBodyRead({ rawHeaders }: IncomingMessage): number {
  return Math.min(lengthOf(rawHeaders) ?? readBytes, readBytes);
}

/** The target without what may hold a secret: its query, its fragment, and the user in a URL. */
function pathOf({ url = '' }: IncomingMessage): string {
  return url.replace(/^([a-z]+:\/\/)?[^/?#]*@/i, '$1...@').replace(/([?#]).*$/s, '$1...');
}

function answerStatus({ res, account }: Asked, statusCode: number, status: string): void {
  account?.end('complete', statusCode);
  const body = `${JSON.stringify({ status })}\n`;
  res.writeHead(statusCode, ['Content-Type', 'application/json', 'Content-Length', String(body.length), ...(account?.fields ?? [])]);
  res.end(body);
}

/**
 * An answer that comes before the end of its request: reads on for a while, so that the client can take it, then gives
 * the connection up rather than read a body that nobody wants.
 */
function discardRest(req: IncomingMessage, res: ServerResponse): void {
  res.once('finish', () => {
    req.resume();
    if (req.complete) return;
    const { socket } = req;
    const timer = setTimeout(() => socket.destroy(), lingerMs).unref();
    req.once('close', () => clearTimeout(timer));
  });
}
