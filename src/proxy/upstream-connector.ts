import { constants } from 'node:crypto';
import { type Socket, isIP } from 'node:net';
import { DEFAULT_CIPHERS, type SecureContext, TLSSocket, createSecureContext } from 'node:tls';
import type { Dispatcher, buildConnector as connectors } from 'undici';
import { isLoopback } from './environment-proxy.ts';
import { Client, buildConnector } from './undici.ts';
import { TlsError, isNetworkError } from './upstream-error.ts';

/** TCP keep-alive starts after this long, so that a dead peer is found without a timeout on silence. */
const tcpKeepAliveMs = 30_000;

/** How connections to the upstream are made. */
export interface ConnectionOptions {
  /** `https://host:port` or, on loopback, `http://host:port`. */
  origin: URL;
  /** The CAs to trust, as PEM; undefined for node's own. */
  ca: string | undefined;
  /** The corporate proxy to tunnel through. */
  proxy: URL | undefined;
  /** 0 for none. */
  connectTimeoutMs: number;
}

/** Makes connections that are verified and ready for undici: in the clear on loopback, else TLS, through a proxy if there is one. */
export function upstreamConnector(options: ConnectionOptions): connectors.connector {
  if (options.origin.protocol === 'http:') return onLoopback(connector(options));
  const tls = tlsOptions(options.ca);
  const connect = connector(options, tls);
  return tellTlsErrors(options.proxy === undefined ? connect : tunnel(options.proxy, options, connect));
}

function connector({ origin, connectTimeoutMs }: ConnectionOptions, tls: TlsOptions | Record<string, never> = {}): connectors.connector {
  const connect = buildConnector({ ...tls, ...familyOf(origin), timeout: connectTimeoutMs, allowH2: false, keepAlive: true, keepAliveInitialDelay: tcpKeepAliveMs });
  /** undici's cache refers to TLS sessions weakly: without this, garbage collection would end their resumption. */
  const newest: { session?: Buffer } = {};
  return (target, callback) =>
    connect(target, (error, socket) => {
      if (error !== null) return callback(error, null);
      if (socket instanceof TLSSocket) socket.on('session', (session) => (newest.session = session));
      return callback(null, socket as Socket);
    });
}

/**
 * In cleartext, `localhost` is 127.0.0.1. Many systems put ::1 first, and where the upstream does not listen there, any user
 * could take its port on ::1.
 */
function familyOf({ protocol, hostname }: URL): { family?: 4 } {
  return protocol === 'http:' && hostname === 'localhost' ? { family: 4 } : {};
}

/** The resolver decides where `localhost` points; in cleartext the key may go to loopback only. */
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
 * kept in ordinary memory until it is over. So are CBC cipher suites (those with an HMAC): their code in OpenSSL leaves
 * plain text in vector registers, which V8 saves in ordinary memory.
 */
function tlsOptions(ca: string | undefined): TlsOptions {
  const secureContext = createSecureContext({
    ...(ca === undefined ? {} : { ca }),
    minVersion: 'TLSv1.2',
    ciphers: `${DEFAULT_CIPHERS}:!SHA1:!SHA256:!SHA384`,
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
function tunnel(proxy: URL, { ca, connectTimeoutMs }: ConnectionOptions, connect: connectors.connector): connectors.connector {
  const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const authorization = credentials === ':' ? [] : ['Proxy-Authorization', `Basic ${Buffer.from(credentials).toString('base64')}`];
  return (options, callback) => {
    const host = isIP(options.hostname) === 6 ? `[${options.hostname}]` : options.hostname;
    const authority = `${host}:${options.port || '443'}`;
    const client = new Client(proxy.origin, {
      connect: { ...familyOf(proxy), timeout: connectTimeoutMs, ...(ca === undefined ? {} : { ca }) },
      headersTimeout: connectTimeoutMs,
    });
    client.dispatch({ method: 'CONNECT', path: authority, headers: ['Host', authority, ...authorization] }, {
      onRequestStart() {},
      // undici takes every answer to a CONNECT for the end of HTTP; only a 2xx opens the tunnel (RFC 9110 section 9.3.6).
      onRequestUpgrade(_controller, statusCode, _headers, socket) {
        if (statusCode < 200 || statusCode > 299) {
          socket.on('error', () => {}).destroy();
          callback(new ProxyError(`proxy ${proxy.host} answered CONNECT with ${statusCode}`), null);
          return;
        }
        connect({ ...options, httpSocket: socket as Socket, ...(isIP(options.hostname) ? {} : { servername: options.hostname }) }, callback);
      },
      onResponseError: (_controller, error) =>
        callback(isNetworkError(error) ? error : new ProxyError(`proxy ${proxy.host}: ${error.message}`), null),
    } satisfies Dispatcher.DispatchHandler);
  };
}
