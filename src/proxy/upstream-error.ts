import type { Problem } from './problem.ts';

/** What a client is told when the upstream failed it, and what the daemon's user is told. */
export interface UpstreamFailure {
  problem: Problem;
  /** Host and cause in one line, for stderr. */
  detail: string;
}

/** What the connector itself finds wrong, in words of its own or those of `cause`. No byte of a request was sent. */
export class ConnectError extends Error {
  readonly code: string;

  constructor(code: 'ETIMEDOUT' | 'UPSTREAM_TLS' | 'UPSTREAM_PROXY' | 'UPSTREAM_ELSEWHERE', message: string, cause?: Error) {
    super(message, { cause });
    this.code = code;
  }
}

/** The connection failed, before or after it was made, below HTTP and TLS: by a system error (errno(3), getaddrinfo(3)) or for a reason of ours. */
const unreachable = /^(E(?!RR|PROTO)[A-Z]|UND_ERR_SOCKET$|UPSTREAM_(BUSY|ENDED|PROXY|ELSEWHERE)$)/;

const timeouts = new Set(['ETIMEDOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT']);

/** Whether an error of a connection being made lies below TLS. Anything else is a TLS error. */
export function isNetworkError(error: Error): boolean {
  return unreachable.test(codeOf(error));
}

/** Whether a limit of time has passed. */
export function isTimeout(error: Error): boolean {
  return timeouts.has(codeOf(error));
}

/**
 * Whether the upstream broke off TLS after the handshake. With TLS 1.3 a client's handshake is over before the server has
 * looked at its certificate, so that a demand for one comes as such an alert (RFC 8446 section 4.4.2.4).
 */
export function isTlsAlert(error: Error): boolean {
  return codeOf(error).startsWith('ERR_SSL_');
}

/** The alert of a server that demands a client certificate: RFC 8446 section 6.2, in OpenSSL's words. */
const certificateRequired = 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED';

/**
 * Puts an error of undici, node or OpenSSL into words.
 *
 * @param host the upstream's host and port, for the detail
 */
export function explain(error: Error, host: string): UpstreamFailure {
  const code = codeOf(error);
  return { problem: problemOf(code), detail: `${host}: ${causeOf(error, code)}` };
}

/** Whether a request was not sent because the key had been wiped. */
export function isWithoutKey(error: Error): boolean {
  return codeOf(error) === 'KEY_EXPIRED';
}

function problemOf(code: string): Problem {
  if (timeouts.has(code)) {
    return { status: 504, code: 'upstream_timeout', message: 'The upstream did not answer in time.' };
  }
  if (unreachable.test(code)) {
    return { status: 502, code: 'upstream_unreachable', message: 'The upstream could not be reached, or hung up before it answered.' };
  }
  if (code === 'UPSTREAM_TLS') {
    return { status: 502, code: 'upstream_tls', message: 'The upstream could not prove who it is, so nothing was sent to it.' };
  }
  if (code === certificateRequired) {
    return { status: 502, code: 'upstream_tls', message: 'The upstream demands a client certificate, which the daemon does not have.' };
  }
  if (code.startsWith('ERR_SSL_')) {
    return { status: 502, code: 'upstream_tls', message: 'The upstream broke off the TLS connection.' };
  }
  return { status: 502, code: 'upstream_protocol', message: 'The upstream answered with something that is not HTTP.' };
}

/** undici says `other side closed` with its own code. */
function causeOf(error: Error, code: string): string {
  if (code === certificateRequired) return `it demands a client certificate (${code})`;
  const cause = error.cause instanceof Error ? codeOf(error.cause) : code;
  // OpenSSL begins with the thread's id, which is an address in our memory.
  const text = (error.message.split('\n', 1)[0] ?? '').replace(/\b[0-9A-F]+:error:/, 'error:');
  return text === '' || text.includes(cause) ? text || cause : `${text} (${cause})`;
}

function codeOf(error: Error): string {
  // undici tells of a 101 and of an answer without a request by its words alone.
  if (/^bad (upgrade|response)$/.test(error.message)) return 'UPSTREAM_PROTOCOL';
  return (error as NodeJS.ErrnoException).code ?? error.name;
}
