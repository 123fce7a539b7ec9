import { timingSafeEqual } from 'node:crypto';
import { type RawHeaders, hasField, valuesOf } from './raw-headers.ts';

/** Largest request head, in bytes. Codex's reach 4 KiB. */
export const maxHeadBytes = 64 * 1024;

/** Most header lines in a request. Codex sends about 20; the limit keeps a head's cost in bounds. */
export const maxHeaderLines = 256;

/** What the gate admits. */
export interface Rules {
  /** The one request target that is served, as text. */
  endpoint: string;
  /** The port we listen on, for the Host header. */
  port: number;
  /** `GET /shutdown` is served. */
  shutdown: boolean;
  /** `GET /health` is served. */
  health: boolean;
  /** A WebSocket handshake on the endpoint is answered 426, so that clients which try it first fall back to POST. */
  websocketFallback: boolean;
  /** The users who are served; undefined for all. */
  allowedUids: ReadonlySet<number> | undefined;
  /** The token a request must carry; undefined for none. */
  token: Buffer | undefined;
}

/** What is known of a request once its head is complete. */
export interface RequestFacts {
  httpVersion: string;
  method: string;
  /** The raw request target. */
  target: string;
  rawHeaders: RawHeaders;
  /** The user at the other end; undefined where nothing asked for it, or the kernel does not know. */
  peerUid: number | undefined;
}

/** A request that is not served: what the client is told, and how. */
export interface Refusal {
  status: number;
  /** For programs to match. */
  code: string;
  /** For people to read. */
  message: string;
  /** Nothing that follows on the connection can be trusted: it is closed. */
  closes?: boolean;
}

/** What is done with an admitted request. */
export type Action = 'forward' | 'shutdown' | 'health' | 'refuse websocket';

/**
 * Judges a request before a byte of it goes upstream. The order is part of the contract: framing, then Host, Origin and
 * user, then method and target, then token. Of each field all values are looked at: parsers disagree over which of two counts.
 */
export function judge(facts: RequestFacts, rules: Rules): Action | Refusal {
  const verdict = checkFraming(facts) ?? checkPeer(facts, rules) ?? route(facts, rules);
  // After a head of another version, it is unknown where the next request begins.
  return typeof verdict === 'string' || isSpokenVersion(facts) ? verdict : { ...verdict, closes: true };
}

/**
 * Refuses framing that node:http accepts and RFC 9112 section 6 does not allow, or allows and no real client sends.
 * Content-Length beside Transfer-Encoding, unequal lengths and bare LF never get here: node:http answers 400 itself.
 */
function checkFraming(facts: RequestFacts): Refusal | undefined {
  if (facts.rawHeaders.length / 2 > maxHeaderLines || headBytes(facts) > maxHeadBytes) return headTooLarge;
  const codings = valuesOf(facts.rawHeaders, 'transfer-encoding');
  if (codings.length > 1 || codings.some((coding) => coding.toLowerCase() !== 'chunked')) {
    return badRequest('The only transfer coding understood here is one "chunked".');
  }
  if (codings.length > 0 && facts.httpVersion === '1.0') return badRequest('HTTP/1.0 has no transfer codings.');
  if (valuesOf(facts.rawHeaders, 'content-length').length + codings.length > 1) return badRequest('The length of the body is given twice.');
  return undefined;
}

export const headTooLarge: Refusal = {
  status: 431,
  code: 'too_many_headers',
  message: `A request head may have at most ${maxHeadBytes} bytes and ${maxHeaderLines} lines.`,
  closes: true,
};

/** The head's size, were it written without superfluous white space. */
function headBytes({ method, target, rawHeaders }: RequestFacts): number {
  let bytes = `${method} ${target} HTTP/1.1\r\n\r\n`.length + rawHeaders.length * 2; // `: ` or CRLF after each
  for (const text of rawHeaders) bytes += text.length;
  return bytes;
}

function badRequest(message: string): Refusal {
  return { status: 400, code: 'bad_request', message, closes: true };
}

/** Refuses browsers (DNS rebinding, pages of other origins) and users who are not allowed. */
function checkPeer({ rawHeaders, peerUid }: RequestFacts, { port, allowedUids }: Rules): Refusal | undefined {
  const [host, ...otherHosts] = valuesOf(rawHeaders, 'host');
  // RFC 9110 section 4.2.3: without a port it means 80.
  const isHere = (suffix: string): boolean => host === `127.0.0.1${suffix}` || host === `localhost${suffix}`;
  if (otherHosts.length > 0 || !(isHere(`:${port}`) || (port === 80 && isHere('')))) {
    return { status: 403, code: 'host_not_allowed', message: `The Host header must be 127.0.0.1:${port} or localhost:${port}, once.` };
  }
  const browserHeader = ['Origin', 'Sec-Fetch-Site'].find((name) => hasField(rawHeaders, name.toLowerCase()));
  if (browserHeader !== undefined) {
    return { status: 403, code: 'browser_not_allowed', message: `Browsers are not served here: the request carries ${browserHeader}.` };
  }
  if (allowedUids === undefined || (peerUid !== undefined && allowedUids.has(peerUid))) return undefined;
  return { status: 403, code: 'user_not_allowed', message: 'This user is not served here (--allow-user).' };
}

function route(facts: RequestFacts, rules: Rules): Action | Refusal {
  const action = servedAction(facts, rules);
  if (action === undefined || !isSpokenVersion(facts)) {
    return { status: 403, code: 'endpoint_not_allowed', message: `Only POST ${rules.endpoint} over HTTP/1.1 is served here, without a query.` };
  }
  if (valuesOf(facts.rawHeaders, 'expect').some((expectation) => expectation.toLowerCase() !== '100-continue')) {
    return { status: 417, code: 'expectation_failed', message: 'The only expectation understood here is 100-continue.', closes: true };
  }
  if (rules.token === undefined || hasToken(facts.rawHeaders, rules.token)) return action;
  return { status: 401, code: 'invalid_token', message: 'This daemon wants its own token: Authorization: Bearer <token>.' };
}

function isSpokenVersion({ httpVersion }: RequestFacts): boolean {
  return httpVersion === '1.1' || httpVersion === '1.0';
}

/** Compares the target as text; nothing is normalised. */
function servedAction({ method, target, rawHeaders }: RequestFacts, rules: Rules): Action | undefined {
  if (method === 'POST' && target === rules.endpoint) return 'forward';
  if (method !== 'GET') return undefined;
  if (target === '/shutdown' && rules.shutdown) return 'shutdown';
  if (target === '/health' && rules.health) return 'health';
  const asksForWebsocket = valuesOf(rawHeaders, 'upgrade').some((protocol) => protocol.toLowerCase() === 'websocket');
  return target === rules.endpoint && rules.websocketFallback && asksForWebsocket ? 'refuse websocket' : undefined;
}

/** RFC 9110 section 11.4: the scheme's case does not matter, at least one space follows it. */
function hasToken(rawHeaders: RawHeaders, token: Buffer): boolean {
  const [authorization = '', ...others] = valuesOf(rawHeaders, 'authorization');
  const given = Buffer.from(/^bearer +(\S+)$/i.exec(authorization)?.[1] ?? '', 'latin1');
  return others.length === 0 && given.length === token.length && timingSafeEqual(given, token);
}
