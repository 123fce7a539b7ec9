import { STATUS_CODES, type ServerResponse } from 'node:http';

/** Something that went wrong, as a client is told it. */
export interface Problem {
  status: number;
  /** For programs to match. */
  code: string;
  /** For people to read. */
  message: string;
}

/** Our own errors in OpenAI's envelope, which every SDK turns into its right exception. */
export function envelope({ status, code, message }: Problem): string {
  const type = status >= 500 ? 'server_error' : status === 401 ? 'authentication_error' : 'invalid_request_error';
  return `${JSON.stringify({ error: { message, type, param: null, code } })}\n`;
}

/** Answers a request with a problem. The connection stays usable. */
export function answerProblem(res: ServerResponse, problem: Problem): void {
  const body = envelope(problem);
  // An answer of the upstream's may have got as far as setting both.
  res.sendDate = true;
  res.writeHead(problem.status, STATUS_CODES[problem.status] ?? '', [
    ...['Content-Type', 'application/json'],
    ...['Content-Length', String(Buffer.byteLength(body))],
    ...challenge(problem),
  ]);
  res.end(body);
}

/** The same for a connection whose request never became one; to be written as it is, before the connection is closed. */
export function rawProblem(problem: Problem, reasonPhrase: string): string {
  const body = envelope(problem);
  return [
    `HTTP/1.1 ${problem.status} ${reasonPhrase}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(problem.status === 401 ? [challenge(problem).join(': ')] : []),
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}

/** RFC 9110 section 15.5.2: a 401 says how to do it right. */
function challenge({ status }: Problem): string[] {
  return status === 401 ? ['WWW-Authenticate', 'Bearer'] : [];
}
