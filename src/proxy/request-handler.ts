import type { IncomingMessage, ServerResponse } from 'node:http';
import { type RequestFacts, type Rules, headTooLarge, judge, maxHeadBytes } from '../gate/gate.ts';
import { contentLength, hasField } from '../gate/raw-headers.ts';
import type { Connection } from './connections.ts';
import { Exchange, type ServedRequest, type Service } from './exchange.ts';
import type { RequestObserver } from './observer.ts';
import { type Problem, answerProblem, rawProblem } from './problem.ts';

/** Most that node reads from a socket at once, in bytes. */
const maxReadBytes = 64 * 1024;

const isStopping: Problem = { status: 503, code: 'shutting_down', message: 'The daemon is stopping.' };

const noWebsocket: Problem = { status: 426, code: 'websocket_not_served', message: 'WebSocket is not served here. Use POST.' };

/** A request on its connection. */
interface RequestContext extends ServedRequest {
  readonly connection: Connection;
}

/** Decides on each request and sends it where it belongs: to the upstream, to an answer of our own, or away. */
export class RequestHandler {
  readonly #service: Service;
  readonly #rules: Rules;
  #state: 'serving' | 'stopping' | 'handing over' = 'serving';

  constructor(service: Service, port: number) {
    this.#service = service;
    this.#rules = { ...service.rules, port };
  }

  /**
   * From now on, requests are told that the daemon is stopping.
   *
   * @param isHandingOver another daemon will serve the socket: a connection's next request is served, and told to be its last
   */
  stop(isHandingOver: boolean): void {
    this.#state = isHandingOver ? 'handing over' : 'stopping';
  }

  /**
   * @param bytesOfHead what was read for the head, and with it
   * @param expectsContinue the client waits for a 100 (Continue) before it sends the body (RFC 9110 section 10.1.1)
   */
  handle(req: IncomingMessage, res: ServerResponse, connection: Connection, bytesOfHead: number, expectsContinue: boolean): void {
    const context: RequestContext = { connection, peerUid: connection.peerUid, req, res, observer: this.#observe(connection, req) };
    if (isHeadTooLarge(req, bytesOfHead)) return this.#refuse(context, headTooLarge);
    // Node drops what followed an Upgrade in the same packet, and would parse what comes next as a request.
    if (hasField(req.rawHeaders, 'upgrade')) connection.endBehindAnswer();
    const verdict = judge(factsOf(req, connection), this.#rules);
    if (typeof verdict !== 'string') return this.#refuse(context, verdict);
    const isLast = this.#state === 'handing over' && verdict === 'forward';
    if (this.#state !== 'serving' && !isLast) return this.#refuseWhileStopping(context);
    switch (verdict) {
      case 'forward':
        return this.#forward(context, expectsContinue);
      case 'health':
        return answerStatus(context, 200, 'ok');
      case 'shutdown':
        return this.#shutdown(context);
      case 'refuse websocket':
        return this.#refuse(context, noWebsocket);
    }
  }

  /** A CONNECT, for which node has given the connection up. */
  handleConnect(req: IncomingMessage, connection: Connection): void {
    const refusal = judge(factsOf(req, connection), this.#rules);
    if (typeof refusal === 'string') throw new Error('the gate admitted a CONNECT');
    const observer = this.#observe(connection, req);
    observer.refuse(refusal.status, refusal.code);
    this.#service.events.note(refusal.code, `CONNECT ${pathOf(req)}`, connection.peerUid);
    closeWith(connection, refusal, observer);
  }

  /**
   * What came on a connection is not HTTP, or broke off.
   *
   * @param isCut the client closed its sending side in the middle of a request
   * @param detail node's code for the log
   */
  handleUnparsable(connection: Connection, problem: Problem, isCut: boolean, detail: string): void {
    // A client that closes its sending side while an answer runs counts as gone: there may be no answer to end behind.
    if (connection.ignoresInput) return isCut ? void connection.socket.end() : connection.endBehindAnswer();
    const { exchange } = connection;
    const observer = exchange?.observer ?? this.#observe(connection);
    const isUnanswered = exchange?.isUnanswered !== false;
    if (isUnanswered && (exchange === undefined || !isCut)) observer.refuse(problem.status, problem.code);
    this.#service.events.note(problem.code, detail, connection.peerUid);
    exchange?.cancel();
    if (isUnanswered) closeWith(connection, problem, observer);
    else connection.cut();
  }

  #observe({ peerUid }: Connection, req?: IncomingMessage): RequestObserver {
    return this.#service.observer.begin({ uid: peerUid, method: req?.method, target: req?.url, rawHeaders: req?.rawHeaders ?? [] });
  }

  #refuse({ connection, req, res, observer }: RequestContext, refusal: Problem): void {
    const { status, code, rule = code, closes } = refusal;
    observer.refuse(status, rule);
    this.#service.events.note(code, `${req.method} ${pathOf(req)}${rule === code ? '' : ` (${rule})`}`, connection.peerUid);
    // After `Expect`, a client may skip the body; body and next request would be indistinguishable.
    if (closes === true || hasField(req.rawHeaders, 'expect')) return closeWith(connection, refusal, observer);
    answerProblem(res, refusal, observer.answerFields);
  }

  #refuseWhileStopping({ connection, observer }: RequestContext): void {
    observer.refuse(isStopping.status, isStopping.code);
    closeWith(connection, isStopping, observer);
  }

  #forward(context: RequestContext, expectsContinue: boolean): void {
    const { connection, req, res, observer } = context;
    const denial = observer.judgeHead(req.rawHeaders);
    if (denial !== undefined) return this.#refuse(context, denial);
    if (expectsContinue) res.writeContinue();
    if (this.#state === 'handing over') connection.endBehindAnswer();
    connection.forward(new Exchange(context, this.#service));
  }

  #shutdown(context: RequestContext): void {
    const { onShutdownRequest } = this.#service;
    const { connection, res } = context;
    connection.endBehindAnswer();
    res.once('close', () => onShutdownRequest(connection.peerUid));
    answerStatus(context, 200, 'shutting_down');
  }
}

/** Whether more was read for a head than it may have. Up to `maxReadBytes` of the body can have come with its end. */
function isHeadTooLarge({ rawHeaders }: IncomingMessage, bytesRead: number): boolean {
  return bytesRead > maxHeadBytes && bytesRead > maxHeadBytes + Math.min(contentLength(rawHeaders) ?? maxReadBytes, maxReadBytes);
}

function factsOf(req: IncomingMessage, { peerUid }: Connection): RequestFacts {
  return { httpVersion: req.httpVersion, method: req.method ?? '', target: req.url ?? '', rawHeaders: req.rawHeaders, peerUid };
}

/** Ends a connection with an answer. */
function closeWith(connection: Connection, problem: Problem, { answerFields }: RequestObserver): void {
  connection.end(rawProblem(problem, answerFields));
}

/** The target without what may hold a secret: its query, its fragment, and the user in a URL. */
function pathOf({ url = '' }: IncomingMessage): string {
  return url.replace(/^([a-z]+:\/\/)?[^/?#]*@/i, '$1...@').replace(/([?#]).*$/s, '$1...');
}

function answerStatus({ res, observer }: RequestContext, statusCode: number, status: string): void {
  observer.answer(statusCode);
  const body = `${JSON.stringify({ status })}\n`;
  res.writeHead(statusCode, ['Content-Type', 'application/json', 'Content-Length', String(body.length), ...observer.answerFields]);
  res.end(body);
}
