/**
 * A second, independent reading of a client's bytes: RFC 9112 read strictly, and the gate's rules as documented.
 * It shares no code with the daemon, so that the two can be compared.
 */

/** A request that may go upstream. */
export interface Admissible {
  readonly body: Buffer;
  /** Whether all of the body is there. */
  readonly isComplete: boolean;
  /** Names (lower case) and values, in order. */
  readonly headers: readonly (readonly [string, string])[];
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const maxHeadBytes = 64 * 1024;
const maxLines = 256;

/** The requests in `bytes` that may go upstream, up to the first bytes that are not HTTP/1.1 or whose end is ambiguous. */
export function admissible(bytes: Buffer, port: number): Admissible[] {
  const found: Admissible[] = [];
  let at = 0;
  for (;;) {
    // RFC 9112 section 2.2: empty lines before a request are skipped. A bare CR or LF there is harmless.
    while (bytes[at] === 0x0d || bytes[at] === 0x0a) at++;
    const end = bytes.indexOf('\r\n\r\n', at, 'latin1');
    if (end < 0 || end + 4 - at > maxHeadBytes) return found;
    const [requestLine = '', ...lines] = bytes.toString('latin1', at, end).split('\r\n');
    at = end + 4;
    // The parts of a request line may be separated by more than one space (section 3).
    const [, method, target, version] = /^([A-Z-]+) +([!-~\x80-\xff]+) +HTTP\/(\d\.\d)$/.exec(requestLine) ?? [];
    if (method === undefined || target === undefined || version === undefined || lines.length > maxLines) return found;
    const headers: [string, string][] = [];
    for (const line of lines) {
      const [, name = '', value = ''] = /^([^:]*):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*$/.exec(line) ?? [];
      if (!token.test(name)) return found;
      headers.push([name.toLowerCase(), value]);
    }
    const values = (name: string): string[] => headers.filter(([key]) => key === name).map(([, value]) => value);

    const lengths = values('content-length');
    const codings = values('transfer-encoding');
    if (lengths.length + codings.length > 1 || lengths.some((length) => !/^\d+$/.test(length))) return found;
    if (codings.some((coding) => coding.toLowerCase() !== 'chunked' || version !== '1.1')) return found;

    const body = codings.length > 0 ? chunkedBody(bytes, at) : lengthBody(bytes, at, Number(lengths[0] ?? 0));
    const hosts = values('host');
    const isAdmitted = hosts.length === 1 && (hosts[0] === `127.0.0.1:${port}` || hosts[0] === `localhost:${port}`)
      && values('origin').length === 0 && values('sec-fetch-site').length === 0
      && method === 'POST' && target === '/v1/responses' && (version === '1.1' || version === '1.0')
      && values('expect').every((expectation) => expectation.toLowerCase() === '100-continue');
    if (isAdmitted) found.push({ body: body.data, isComplete: body.end !== undefined, headers });
    if (body.end === undefined) return found;
    at = body.end;
  }
}

interface Body {
  readonly data: Buffer;
  /** Where the next message begins; undefined if the body is incomplete or malformed. */
  readonly end: number | undefined;
}

function lengthBody(bytes: Buffer, at: number, length: number): Body {
  return { data: bytes.subarray(at, at + length), end: at + length <= bytes.length ? at + length : undefined };
}

function chunkedBody(bytes: Buffer, start: number): Body {
  const pieces: Buffer[] = [];
  let at = start;
  const line = (): string | undefined => {
    const end = bytes.indexOf('\r\n', at, 'latin1');
    if (end < 0) return undefined;
    const text = bytes.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const broken = (): Body => ({ data: Buffer.concat(pieces), end: undefined });
  for (;;) {
    const head = line();
    const [, digits] = /^([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?$/.exec(head ?? '') ?? [];
    if (digits === undefined) return broken();
    const size = Number.parseInt(digits, 16);
    if (size === 0) break;
    pieces.push(bytes.subarray(at, at + size));
    at += size;
    if (at + 2 > bytes.length || bytes.toString('latin1', at, at + 2) !== '\r\n') return broken();
    at += 2;
  }
  for (;;) {
    const trailer = line();
    if (trailer === undefined) return broken();
    if (trailer === '') return { data: Buffer.concat(pieces), end: at };
    if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*$/.test(trailer)) return broken();
  }
}
