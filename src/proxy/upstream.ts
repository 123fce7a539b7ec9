import { constants } from 'node:crypto';
import { type Socket, isIP } from 'node:net';
import { type SecureContext, createSecureContext } from 'node:tls';
import type { Dispatcher, buildConnector as connectors } from 'undici';
import type { Injection } from '../key/injection.ts';
import { isLoopback } from './environment-proxy.ts';
import { Client, Pool, buildConnector } from './undici.ts';
import { TlsError, isNetworkError } from './upstream-error.ts';
import { mendSocket } from './upstream-socket.ts';

/** How long a connection to the upstream may lie idle before we close it. */
const idleConnectionMs = 60_000;

/** TCP keep-alive starts after this long, so that a dead peer is found without a timeout on silence. */
const tcpKeepAliveMs = 30_000;

/** Largest response head. OpenAI's are about 1 KiB. */
const maxResponseHeadBytes = 64 * 1024;

/** Where requests go, and how patiently. */
export interface UpstreamOptions {
  /** `https://host:port` or, on loopback, `http://host:port`. */
  origin: URL;
  /** Path and query, exactly as given. */
  target: string;
  /** The CAs to trust, as PEM; undefined for node's own. */
  ca: string | undefined;
  /** The corporate proxy to tunnel through. */
  proxy: URL | undefined;
  /** 0 for none, as for the two below. */
  connectTimeoutMs: number;
  responseTimeoutMs: number;
  idleTimeoutMs: number;
}

/** The one upstream: a pool of connections on which every request carries the key. */
export interface Upstream {
  /** Host and port, for messages. */
  readonly host: string;
  /**
   * Sends one request. `handler` learns of everything that follows, also of failures; nothing is thrown.
   *
   * @param headers names and values in turn, see `headers.ts`
   * @param body the whole body, or its pieces as they come, or null
   */
  send(headers: string[], body: Uint8Array | AsyncIterable<Uint8Array> | null, handler: Dispatcher.DispatchHandler): void;
}

export function createUpstream(options: UpstreamOptions, injection: Injection): Upstream {
  const { origin, target } = options;
  const waiting = new Waiting();
  const pool = new Pool(origin.origin, {
    connect: waiting.connector(injection.connector(connectorOf(options))),
    // One request at a time on a connection: the key is only written to a socket that is idle.
    pipelining: 1,
    allowH2: false,
    keepAliveTimeout: idleConnectionMs,
    keepAliveMaxTimeout: idleConnectionMs,
    maxHeaderSize: maxResponseHeadBytes,
    headersTimeout: options.responseTimeoutMs,
    bodyTimeout: options.idleTimeoutMs,
  });
  return {
    host: origin.host,
    send(headers, body, handler) {
      // undici's types do not know that a body may be an async iterable; its documentation does.
      pool.dispatch({ method: 'POST', path: target, headers, body: body as Uint8Array | null }, waiting.handler(handler));
    },
  };
}

/**
 * Requests that have no connection yet. undici connects anew for one that was cancelled on its connection, and that
 * connection would lie about unused: with nobody waiting, none is made.
 */
class Waiting {
  #count = 0;

  connector(connect: connectors.connector): connectors.connector {
    return (options, callback) => {
      if (this.#count > 0) connect(options, callback);
      else callback(new Error('nobody waits for a connection'), null);
    };
  }

  handler(handler: Dispatcher.DispatchHandler): Dispatcher.DispatchHandler {
    let isWaiting = true;
    this.#count++;
    const leave = (): void => {
      if (isWaiting) this.#count--;
      isWaiting = false;
    };
    return {
      onConnect: (abort) => {
        leave();
        handler.onConnect?.(abort);
      },
      onHeaders: (statusCode, headers, resume, statusText) => handler.onHeaders?.(statusCode, headers, resume, statusText) ?? true,
      onData: (chunk) => handler.onData?.(chunk) ?? true,
      onComplete: (trailers) => handler.onComplete?.(trailers),
      onError: (error) => {
        leave();
        handler.onError?.(error);
      },
    };
  }
}

function connectorOf(options: UpstreamOptions): connectors.connector {
  if (options.origin.protocol === 'http:') return onLoopback(connector(options));
  const tls = tlsOptions(options.ca);
  const connect = connector(options, tls);
  return tellTlsErrors(options.proxy === undefined ? connect : tunnel(options.proxy, options, connect));
}

function connector({ connectTimeoutMs }: UpstreamOptions, tls: TlsOptions | Record<string, never> = {}): connectors.connector {
  const connect = buildConnector({ ...tls, timeout: connectTimeoutMs, allowH2: false, keepAlive: true, keepAliveInitialDelay: tcpKeepAliveMs });
  return (target, callback) =>
    connect(target, (error, socket) => {
      if (error !== null) return callback(error, null);
      mendSocket(socket as Socket);
      return callback(null, socket as Socket);
    });
}

/** The name `localhost` leads where a resolver says. In the clear the key goes to loopback alone. */
function onLoopback(connect: connectors.connector): connectors.connector {
  return (target, callback) =>
    connect(target, (error, socket) => {
      if (error !== null) return callback(error, null);
      const address = (socket as Socket).remoteAddress ?? '';
      if (isLoopback(address)) return callback(null, socket as Socket);
      (socket as Socket).destroy();
      return callback(new ElsewhereError(`it is at ${address}, beyond loopback: nothing was sent in the clear`), null);
    });
}

/** A name led beyond this machine. */
class ElsewhereError extends Error {
  readonly code = 'UPSTREAM_ELSEWHERE';
}

interface TlsOptions {
  secureContext: SecureContext;
  rejectUnauthorized: true;
}

/**
 * One context for all connections, for making one costs more than a request. Verification is asked for by name:
 * NODE_TLS_REJECT_UNAUTHORIZED only changes the default. Renegotiation (TLS 1.2) is off, because a write during it is
 * kept in ordinary memory until it is over.
 */
function tlsOptions(ca: string | undefined): TlsOptions {
  const secureContext = createSecureContext({
    ...(ca === undefined ? {} : { ca }),
    minVersion: 'TLSv1.2',
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  });
  return { secureContext, rejectUnauthorized: true };
}

function tellTlsErrors(connect: connectors.connector): connectors.connector {
  return (options, callback) =>
    connect(options, (error, socket) => {
      if (error === null) callback(null, socket as Socket);
      else callback(isNetworkError(error) ? error : new TlsError(error), null);
    });
}

/** The corporate proxy refused the tunnel, or could not be reached. */
class ProxyError extends Error {
  readonly code = 'UPSTREAM_PROXY';
}

/** Connects through an HTTP proxy: CONNECT to the upstream, with the proxy's own credentials, then TLS end to end. */
function tunnel(proxy: URL, { ca, connectTimeoutMs }: UpstreamOptions, connect: connectors.connector): connectors.connector {
  const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const authorization = credentials === ':' ? [] : ['Proxy-Authorization', `Basic ${Buffer.from(credentials).toString('base64')}`];
  return (options, callback) => {
    const host = isIP(options.hostname) === 6 ? `[${options.hostname}]` : options.hostname;
    const authority = `${host}:${options.port || '443'}`;
    const client = new Client(proxy.origin, {
      connect: { timeout: connectTimeoutMs, ...(ca === undefined ? {} : { ca }) },
      headersTimeout: connectTimeoutMs,
    });
    client.dispatch(
      { method: 'CONNECT', path: authority, headers: ['Host', authority, ...authorization] },
      {
        onConnect() {},
        // undici takes every answer to a CONNECT for the end of HTTP; only a 2xx opens the tunnel (RFC 9110 section 9.3.6).
        onUpgrade(statusCode, _headers, socket) {
          if (statusCode < 200 || statusCode > 299) {
            socket.on('error', () => {}).destroy();
            callback(new ProxyError(`proxy ${proxy.host} answered CONNECT with ${statusCode}`), null);
            return;
          }
          connect({ ...options, httpSocket: socket as Socket, ...(isIP(options.hostname) ? {} : { servername: options.hostname }) }, callback);
        },
        onHeaders: () => true,
        onData: () => true,
        onComplete() {},
        onError: (error) => callback(isNetworkError(error) ? error : new ProxyError(`proxy ${proxy.host}: ${error.message}`), null),
      },
    );
  };
}
