import { constants } from 'node:crypto';
import { type Socket, isIP } from 'node:net';
import { unescape } from 'node:querystring';
import { type ConnectionOptions as TlsOptions, DEFAULT_CIPHERS, type SecureContext, type SecureContextOptions, connect as connectTls, createSecureContext } from 'node:tls';
import type { Dispatcher } from 'undici';
import { CodedError } from '../run/failure.ts';
import { version } from '../run/installation.ts';
import { bare, isLoopback } from './environment-proxy.ts';
import { addressesOf, raceTcp } from './tcp-race.ts';
import { Client } from './undici.ts';
import { isNetworkError } from './upstream-error.ts';

/** How much a TLS socket reads ahead, in bytes: node delivers one record at a time, and none is longer. */
const highWaterMark = 16 * 1024;

/** How connections to the upstream are made. */
export interface ConnectionOptions {
  /** `https://host:port` or, on loopback, `http://host:port`. */
  origin: URL;
  /** The certificates to trust, as PEM; undefined for node's own CAs. */
  ca: string | undefined;
  /** The corporate proxy to tunnel through. */
  proxy: URL | undefined;
  /** 0 for none. */
  connectTimeoutMs: number;
}

/** Makes a connection. An abort closes what has been opened so far; nobody waits for the promise then. */
type Connect = (signal: AbortSignal) => Promise<Socket>;

/** Makes connections that are verified and ready for undici: in the clear on loopback, else TLS, through a proxy if there is one. */
export function upstreamConnector({ origin, ca, proxy, connectTimeoutMs }: ConnectionOptions): () => Promise<Socket> {
  const route = proxy === undefined ? tcp(origin, origin.protocol === 'http:') : tunnel(proxy, origin, ca);
  const connect = origin.protocol === 'http:' ? route : secure(route, origin, contextOf(ca, keepsKey));
  return () => within(connectTimeoutMs, connect);
}

/** Bounds all that it takes to connect. */
function within(limitMs: number, connect: Connect): Promise<Socket> {
  const controller = new AbortController();
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      reject(new CodedError('ETIMEDOUT', `--connect-timeout: no connection within ${limitMs / 1000} s`));
      controller.abort();
    };
    const timer = limitMs === 0 ? undefined : setTimeout(giveUp, limitMs);
    connect(controller.signal).then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Waits for the next step of a socket, which ends with an error where the signal aborts: undici trips an assertion without one. */
function nextStep(socket: Socket, signal: AbortSignal, take: (resolve: (next: Socket) => void, reject: (error: Error) => void) => void): Promise<Socket> {
  const end = (): void => void socket.destroy(new Error('aborted'));
  signal.addEventListener('abort', end);
  return new Promise(take).finally(() => signal.removeEventListener('abort', end));
}

/**
 * In cleartext, `localhost` is 127.0.0.1. Many systems put ::1 first, and where the upstream does not listen there, any user
 * could take its port on ::1.
 *
 * @param isLocal the resolver decides where `localhost` points; in cleartext the key may go to loopback only
 */
function tcp(url: URL, isLocal = false): Connect {
  const lookUp = addressesOf(url.hostname.replace(/[[\]]/g, ''), url.protocol === 'http:' && url.hostname === 'localhost' ? 4 : 0);
  const port = Number(url.port || (url.protocol === 'https:' ? 443 : 80));
  return async (signal) => {
    const addresses = await lookUp();
    signal.throwIfAborted();
    const elsewhere = isLocal ? addresses.find(({ address }) => !isLoopback(address)) : undefined;
    if (elsewhere !== undefined) throw new CodedError('UPSTREAM_ELSEWHERE', `it is at ${elsewhere.address}, beyond loopback: nothing was sent in the clear`);
    return raceTcp(addresses, port, signal);
  };
}

/** TLS with the host of `url`. Verification is asked for by name: NODE_TLS_REJECT_UNAUTHORIZED only changes the default. */
function secure(connect: Connect, url: URL, secureContext: SecureContext): Connect {
  const host = bare(url.hostname);
  /** The newest, for the next connection to resume. */
  let session: Buffer | undefined;
  return async (signal) => {
    const options: TlsOptions & { highWaterMark: number } = {
      socket: await connect(signal), // it is connected: node would wrap any other in a stream of its own
      host,
      secureContext,
      rejectUnauthorized: true,
      ALPNProtocols: ['http/1.1'],
      highWaterMark,
      ...(isIP(host) ? {} : { servername: host }),
      ...(session === undefined ? {} : { session }),
    };
    const socket = connectTls(options);
    socket.on('session', (newest) => (session = newest));
    return nextStep(socket, signal, (resolve, reject) => {
      socket.once('secureConnect', () => resolve(socket));
      socket.on('error', (error) => reject(isNetworkError(error) ? error : new CodedError('UPSTREAM_TLS', error.message, error)));
    });
  };
}

/**
 * For the connections that carry the key. Renegotiation (TLS 1.2) is off, because a write during it is kept in ordinary
 * memory until it is over. So are CBC cipher suites (those with an HMAC): their code in OpenSSL leaves plain text in vector
 * registers, which V8 saves in ordinary memory.
 */
const keepsKey: SecureContextOptions = { ciphers: `${DEFAULT_CIPHERS}:!SHA1:!SHA256:!SHA384`, secureOptions: constants.SSL_OP_NO_RENEGOTIATION };

/**
 * One for all connections, because making one costs more than a request. Each certificate of `ca` is trusted for itself, as
 * curl does: an issuing CA needs no root, nor the upstream's own certificate its CA.
 */
function contextOf(ca: string | undefined, limits: SecureContextOptions = {}): SecureContext {
  return createSecureContext({ ...(ca === undefined ? {} : { ca, allowPartialTrustChain: true }), minVersion: 'TLSv1.2', ...limits });
}

/** Some proxies refuse a CONNECT without one. */
const userAgent = ['User-Agent', `responses-api-proxy/${version}`];

/** Connects through an HTTP proxy: CONNECT to the upstream, with the proxy's own credentials. */
function tunnel(proxy: URL, origin: URL, ca: string | undefined): Connect {
  const connect = proxy.protocol === 'https:' ? secure(tcp(proxy), proxy, contextOf(ca)) : tcp(proxy);
  const authority = `${origin.hostname}:${origin.port || '443'}`;
  const credentials = `${unescape(proxy.username)}:${unescape(proxy.password)}`; // a % alone stays one, as in curl
  const authorization = credentials === ':' ? [] : ['Proxy-Authorization', `Basic ${Buffer.from(credentials).toString('base64')}`];
  const explained = (error: Error): Error => (isNetworkError(error) ? error : new CodedError('UPSTREAM_PROXY', `proxy ${proxy.host}: ${error.message}`));
  return async (signal) => {
    const socket = await connect(signal).catch((error: Error) => Promise.reject(explained(error)));
    const client = new Client(proxy.origin, { connect: (_options, callback) => process.nextTick(callback, null, socket), headersTimeout: 0 });
    return nextStep(socket, signal, (resolve, reject) => {
      client.dispatch({ method: 'CONNECT', path: authority, headers: ['Host', authority, ...userAgent, ...authorization] }, {
        onRequestStart() {},
        // undici takes every answer to a CONNECT for the end of HTTP; only a 2xx opens the tunnel (RFC 9110 section 9.3.6).
        onRequestUpgrade(_controller, statusCode, _headers, opened) {
          if (statusCode >= 200 && statusCode <= 299) return resolve(opened as Socket);
          socket.destroy();
          reject(new CodedError('UPSTREAM_PROXY', `proxy ${proxy.host} answered CONNECT with ${statusCode}`));
        },
        onResponseError: (_controller, error) => reject(explained(error)),
      } satisfies Dispatcher.DispatchHandler);
    });
  };
}
