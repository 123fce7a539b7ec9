import type { Problem } from './problem.ts';

const timeout = /^(ETIMEDOUT|UND_ERR_(HEADERS|BODY)_TIMEOUT)$/;

/** The connection failed, before or after it was made, below HTTP and TLS: by a system error (errno(3), getaddrinfo(3)) or for a reason of ours. */
const unreachable = /^(E(?!RR|PROTO)[A-Z]|UND_ERR_SOCKET$|UPSTREAM_(BUSY|ENDED|PROXY|ELSEWHERE)$)/;

/**
 * The upstream broke off TLS after the handshake. With TLS 1.3 a client's handshake is over before the server has
 * looked at its certificate, so that a demand for one comes as such an alert (RFC 8446 section 4.4.2.4).
 */
const tlsAlert = /^ERR_SSL_/;

/** The alert of a server that demands a client certificate: RFC 8446 section 6.2, in OpenSSL's words. */
const certificateRequired = 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED';

/** What a client is told, by the error's code. The first that fits counts. */
const problems: readonly (readonly [when: RegExp, told: Problem])[] = [
  [timeout, { status: 504, code: 'upstream_timeout', message: 'The upstream did not answer in time.' }],
  [unreachable, { status: 502, code: 'upstream_unreachable', message: 'The upstream could not be reached, or hung up before it answered.' }],
  [/^UPSTREAM_TLS$/, { status: 502, code: 'upstream_tls', message: 'The upstream could not prove who it is, so nothing was sent to it.' }],
  [new RegExp(certificateRequired), { status: 502, code: 'upstream_tls', message: 'The upstream demands a client certificate, which the daemon does not have.' }],
  [tlsAlert, { status: 502, code: 'upstream_tls', message: 'The upstream broke off the TLS connection.' }],
];
const notHttp: Problem = { status: 502, code: 'upstream_protocol', message: 'The upstream answered with something that is not HTTP.' };

/** Whether an error of a connection being made lies below TLS. Anything else is a TLS error. */
export function isNetworkError(error: Error): boolean {
  return unreachable.test(codeOf(error));
}

/** Whether a limit of time has passed. */
export function isTimeout(error: Error): boolean {
  return timeout.test(codeOf(error));
}

export function isTlsAlert(error: Error): boolean {
  return tlsAlert.test(codeOf(error));
}

/** Whether a request was not sent because the key had been wiped. */
export function isWithoutKey(error: Error): boolean {
  return codeOf(error) === 'KEY_EXPIRED';
}

/**
 * Puts an error of undici, node or OpenSSL into words.
 *
 * @param host the upstream's host and port
 * @returns what a client is told; and for the daemon's user, host and cause in one line
 */
export function explain(error: Error, host: string): { problem: Problem; detail: string } {
  const code = codeOf(error);
  return { problem: problems.find(([when]) => when.test(code))?.[1] ?? notHttp, detail: `${host}: ${causeOf(error, code)}` };
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
