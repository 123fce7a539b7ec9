import { constants } from 'node:crypto';
import { type Socket, isIP } from 'node:net';
import { type SecureContext, createSecureContext } from 'node:tls';
import type { Dispatcher, buildConnector as connectors } from 'undici';
import type { Injection } from '../key/injection.ts';
import { Client, Pool, buildConnector } from './undici.ts';
import { TlsError, isNetworkError } from './upstream-error.ts';

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
  const pool = new Pool(origin.origin, {
    connect: injection.connector(connectorOf(options)),
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
      pool.dispatch({ method: 'POST', path: target, headers, body: body as Uint8Array | null }, handler);
    },
  };
}

function connectorOf(options: UpstreamOptions): connectors.connector {
  if (options.origin.protocol === 'http:') return connector(options);
  const tls = tlsOptions(options.ca);
  const connect = connector(options, tls);
  return tellTlsErrors(options.proxy === undefined ? connect : tunnel(options.proxy, options, connect));
}

function connector({ connectTimeoutMs }: UpstreamOptions, tls: TlsOptions | Record<string, never> = {}): connectors.connector {
  return buildConnector({ ...tls, timeout: connectTimeoutMs, allowH2: false, keepAlive: true, keepAliveInitialDelay: tcpKeepAliveMs });
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
function tunnel(proxy: URL, { connectTimeoutMs }: UpstreamOptions, connect: connectors.connector): connectors.connector {
  const headers: Record<string, string> = {};
  if (proxy.username !== '' || proxy.password !== '') {
    const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
    headers['Proxy-Authorization'] = `Basic ${Buffer.from(credentials).toString('base64')}`;
  }
  return (options, callback) => {
    const authority = `${options.hostname}:${options.port || '443'}`;
    const client = new Client(proxy.origin, { connect: { timeout: connectTimeoutMs }, headersTimeout: connectTimeoutMs });
    client.connect({ path: authority, headers: { Host: authority, ...headers } }).then(
      ({ statusCode, socket }) => {
        if (statusCode === 200) {
          connect({ ...options, httpSocket: socket as Socket, ...(isIP(options.hostname) ? {} : { servername: options.hostname }) }, callback);
          return;
        }
        socket.on('error', () => {}).destroy();
        callback(new ProxyError(`proxy ${proxy.host} answered CONNECT with ${statusCode}`), null);
      },
      (error: Error) => callback(isNetworkError(error) ? error : new ProxyError(`proxy ${proxy.host}: ${error.message}`), null),
    );
  };
}
