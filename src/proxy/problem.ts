import { STATUS_CODES, type ServerResponse } from 'node:http';

/** Something that went wrong, as a client is told it. */
export interface Problem {
  status: number;
  /** For programs to match. */
  code: string;
  /** For people to read. */
  message: string;
  /** When it is worth trying again, in whole seconds. */
  retryAfterSeconds?: number;
}

/** Our own errors in OpenAI's envelope, which every SDK turns into its right exception. */
export function envelope({ status, code, message }: Problem): string {
  return `${JSON.stringify({ error: { message, type: typeOf(status), param: null, code } })}\n`;
}

/**
 * Answers a request with a problem. The connection stays usable.
 *
 * @param more further fields, names and values in turn
 */
export function answerProblem(res: ServerResponse, problem: Problem, more: readonly string[] = []): void {
  const body = envelope(problem);
  // An answer of the upstream's may have got as far as setting both.
  res.sendDate = true;
  res.writeHead(problem.status, STATUS_CODES[problem.status] ?? '', [
    ...['Content-Type', 'application/json'],
    ...['Content-Length', String(Buffer.byteLength(body))],
    ...advice(problem),
    ...more,
  ]);
  res.end(body);
}

/** The same for a connection whose request never became one; to be written as it is, before the connection is closed. */
export function rawProblem(problem: Problem, reasonPhrase: string, more: readonly string[] = []): string {
  const body = envelope(problem);
  return [
    `HTTP/1.1 ${problem.status} ${reasonPhrase}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...lines([...advice(problem), ...more]),
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}

/** The names that OpenAI has for kinds of errors. */
function typeOf(status: number): string {
  if (status >= 500) return 'server_error';
  if (status === 401) return 'authentication_error';
  return status === 429 ? 'rate_limit_error' : 'invalid_request_error';
}

/** What to do about it, in fields: a 401 says how to do it right (RFC 9110 section 15.5.2), another when to try again. */
function advice({ status, retryAfterSeconds }: Problem): string[] {
  return [
    ...(status === 401 ? ['WWW-Authenticate', 'Bearer'] : []),
    ...(retryAfterSeconds === undefined ? [] : ['Retry-After', String(retryAfterSeconds)]),
  ];
}

function lines(fields: readonly string[]): string[] {
  return fields.flatMap((name, index) => (index % 2 === 0 ? [`${name}: ${fields[index + 1]}`] : []));
}
