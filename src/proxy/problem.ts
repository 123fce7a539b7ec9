import { STATUS_CODES, type ServerResponse } from 'node:http';
import type { Refusal } from '../gate/gate.ts';
import type { RawHeaders } from '../gate/raw-headers.ts';

/** Something that went wrong, as a client is told it. */
export interface Problem extends Refusal {
  /** When it is worth trying again, in whole seconds. */
  retryAfterSeconds?: number;
  /** No retry can succeed. OpenAI's SDKs obey a header that says so, for any status. */
  isFinal?: boolean;
  /** What it offends, for the record; undefined where the code says that. */
  rule?: string;
}

/** A use of the key that is not granted. */
export interface Denial extends Problem {
  rule: string;
}

/** A request that an observer denied on its way up: nothing of it was sent. */
export class DeniedError extends Error {
  readonly denial: Denial;

  constructor(denial: Denial) {
    super(denial.message);
    this.denial = denial;
  }
}

/** Our own errors in OpenAI's envelope, which every SDK turns into the right exception. */
function envelope({ status, code, message }: Problem): string {
  return `${JSON.stringify({ error: { message, type: typeOf(status), param: null, code } })}\n`;
}

/**
 * Answers a request with a problem. The connection stays usable.
 *
 * @param more further fields
 */
export function answerProblem(res: ServerResponse, problem: Problem, more: RawHeaders): void {
  const body = envelope(problem);
  // The upstream's answer may have got as far as switching it off.
  res.sendDate = true;
  res.writeHead(problem.status, STATUS_CODES[problem.status] ?? '', [...fieldsOf(problem, body), ...more]);
  res.end(body);
}

/** The same as raw bytes, for a connection that will be closed after it, or whose request could not be parsed. */
export function rawProblem(problem: Problem, more: RawHeaders): string {
  const body = envelope(problem);
  const fields = [...fieldsOf(problem, body), ...more, ...(problem.status === 426 ? [] : ['Connection', 'close'])]; // a 426 says so itself
  const lines = fields.map((text, index) => `${text}${index % 2 === 0 ? ': ' : '\r\n'}`);
  return `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\n${lines.join('')}\r\n${body}`;
}

/** OpenAI's names for kinds of errors. */
function typeOf(status: number): string {
  if (status >= 500) return 'server_error';
  if (status === 401) return 'authentication_error';
  return status === 429 ? 'rate_limit_error' : 'invalid_request_error';
}

/** A 401 names the scheme to use (RFC 9110 section 15.5.2), a 426 the protocol (section 15.5.22); others say when to try again. */
function fieldsOf({ status, retryAfterSeconds, isFinal }: Problem, body: string): string[] {
  return [
    ...['Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(body))],
    ...(status === 401 ? ['WWW-Authenticate', 'Bearer'] : []),
    ...(status === 426 ? ['Upgrade', 'HTTP/1.1', 'Connection', 'upgrade, close'] : []),
    ...(retryAfterSeconds === undefined ? [] : ['Retry-After', String(retryAfterSeconds)]),
    ...(isFinal === true ? ['x-should-retry', 'false'] : []),
  ];
}
