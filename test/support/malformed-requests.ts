/**
 * Malformed requests: those that two parsers may read differently, as request smuggling needs, and what is not HTTP/1.1 at all.
 * Each is raw bytes, latin1, for a daemon on a given port.
 */

/** The name of a malformed request, its bytes, and the statuses that refuse it. */
export type Malformed = readonly [name: string, raw: string, ...statuses: number[]];

const requestLine = 'POST /v1/responses HTTP/1.1';

/** An otherwise good request with `lines` in its head. The body is 5 bytes; a parser that is fooled reads the rest as the next request. */
function withLines(port: number, lines: readonly string[], body = 'hello', line = requestLine): string {
  return `${[line, `Host: 127.0.0.1:${port}`, ...lines].join('\r\n')}\r\n\r\n${body}`;
}

const chunkedHello = '5\r\nhello\r\n0\r\n\r\n';

/** Heads that are wrong or ambiguous about where the body ends. */
export function badFraming(port: number): Malformed[] {
  const lengths = (...values: string[]): string => withLines(port, values.map((value) => `Content-Length:${value}`));
  const codings = (...values: string[]): string => withLines(port, values.map((value) => `Transfer-Encoding:${value}`), chunkedHello);
  return [
    ['Content-Length, then Transfer-Encoding', withLines(port, ['Content-Length: 5', 'Transfer-Encoding: chunked'], chunkedHello), 400],
    ['Transfer-Encoding, then Content-Length', withLines(port, ['Transfer-Encoding: chunked', 'Content-Length: 5'], chunkedHello), 400],
    ['Transfer-Encoding beside the length of exactly that', withLines(port, [`Content-Length: ${chunkedHello.length}`, 'Transfer-Encoding: chunked'], chunkedHello), 400],
    ['Transfer-Encoding beside a length of 0', withLines(port, ['Content-Length: 0', 'Transfer-Encoding: chunked'], chunkedHello), 400],
    ['an unknown coding beside a length', withLines(port, ['Content-Length: 5', 'Transfer-Encoding: x']), 400],
    ['Transfer-Encoding in lower case beside a length', withLines(port, ['content-length: 5', 'transfer-encoding: chunked'], chunkedHello), 400],
    ['an empty Transfer-Encoding beside a length', withLines(port, ['Content-Length: 5', 'Transfer-Encoding:']), 400],

    ['two unequal lengths', lengths(' 5', ' 6'), 400],
    ['two unequal lengths, the longer first', lengths(' 60', ' 5'), 400],
    ['two equal lengths', lengths(' 5', ' 5'), 400],
    ['a list of equal lengths', lengths(' 5, 5'), 400],
    ['a list of equal lengths without a space', lengths(' 5,5'), 400],
    ['a list of unequal lengths', lengths(' 5, 6'), 400],
    ['a list with an empty element', lengths(' 5,'), 400],
    ['an empty length', lengths(''), 400],
    ['a length of spaces', lengths('   '), 400],
    ['a length with a plus', lengths(' +5'), 400],
    ['a negative length', lengths(' -1'), 400],
    ['a length of minus zero', lengths(' -0'), 400],
    ['a hexadecimal length', lengths(' 0x5'), 400],
    ['a length of hexadecimal digits', lengths(' a'), 400],
    ['a length with an exponent', lengths(' 5e0'), 400],
    ['a length with a fraction', lengths(' 5.0'), 400],
    ['a length with a digit separator', lengths(' 5_0'), 400],
    ['a quoted length', lengths(' "5"'), 400],
    ['a length with a unit', lengths(' 5 bytes'), 400],
    ['a length with a space inside', lengths(' 5 0'), 400],
    ['a length with a tab inside', lengths(' 5\t0'), 400],
    ['a length behind a vertical tab', lengths(' \v5'), 400],
    ['a length before a vertical tab', lengths(' 5\v'), 400],
    ['a length before a form feed', lengths(' 5\f'), 400],
    ['a length with a NUL', lengths(' 5\0'), 400],
    ['a length with a no-break space', lengths(' 5\xa0'), 400],
    ['a length in other digits', lengths(' \xd9\xa5'), 400],
    ['a length beyond 64 bits', lengths(' 18446744073709551621'), 400],
    ['a length of 100 digits', lengths(` ${'9'.repeat(100)}`), 400],

    ['stacked codings', codings(' gzip, chunked'), 400],
    ['stacked codings in two lines', codings(' gzip', ' chunked'), 400],
    ['chunked, then another', codings(' chunked, gzip'), 400],
    ['chunked, then identity', codings(' chunked, identity'), 400],
    ['chunked, then identity in two lines', codings(' chunked', ' identity'), 400],
    ['chunked twice', codings(' chunked, chunked'), 400],
    ['chunked twice without a space', codings(' chunked,chunked'), 400],
    ['chunked in two lines', codings(' chunked', ' chunked'), 400],
    ['chunked and nothing', codings(' chunked', ''), 400],
    ['chunked with an empty element behind it', codings(' chunked,'), 400],
    ['chunked with an empty element before it', codings(' ,chunked'), 400],
    ['chunked in a longer word', codings(' xchunked'), 400],
    ['chunked at the beginning of a word', codings(' chunkedx'), 400],
    ['chunked behind a space-separated word', codings(' x chunked'), 400],
    ['chunked with a parameter', codings(' chunked;q=1'), 400],
    ['chunked with a semicolon', codings(' chunked;'), 400],
    ['chunked before a vertical tab', codings(' chunked\v'), 400],
    ['chunked behind a vertical tab', codings(' \vchunked'), 400],
    ['chunked before a form feed', codings(' chunked\f'), 400],
    ['chunked before a NUL', codings(' chunked\0'), 400],
    ['chunked behind a no-break space', codings(' \xa0chunked'), 400],
    ['chunked, quoted', codings(' "chunked"'), 400],
    ['chunked, quoted singly', codings(' \'chunked\''), 400],
    ['no coding', codings(''), 400],
    ['identity', codings(' identity'), 400],
    ['gzip', codings(' gzip'), 400],
    ['an unknown coding', codings(' cow'), 400],
    ['chunked in a folded line', codings('\r\n chunked'), 400],
    ['chunked behind a bare CR', codings('\rchunked'), 400],
    ['chunked behind a bare LF', codings('\nchunked'), 400],
    ['chunked with a space before the colon', withLines(port, ['Transfer-Encoding : chunked'], chunkedHello), 400],
    ['chunked with a tab before the colon', withLines(port, ['Transfer-Encoding\t: chunked'], chunkedHello), 400],
    ['a length with a space before the colon', withLines(port, ['Content-Length : 5']), 400],
    ['a length in a line that begins with a space', withLines(port, ['X: y', ' Content-Length: 5']), 400],
    ['a coding hidden behind a bare LF', withLines(port, ['X: y\nTransfer-Encoding: chunked', 'Content-Length: 5'], chunkedHello), 400],
    ['a coding hidden behind a bare CR', withLines(port, ['X: y\rTransfer-Encoding: chunked', 'Content-Length: 5'], chunkedHello), 400],
    ['a coding in HTTP/1.0', withLines(port, ['Transfer-Encoding: chunked'], chunkedHello, 'POST /v1/responses HTTP/1.0'), 400],
    ['a coding in HTTP/1.0 that is kept alive', withLines(port, ['Connection: keep-alive', 'Transfer-Encoding: chunked'], chunkedHello, 'POST /v1/responses HTTP/1.0'), 400],
    ['an unknown coding in HTTP/1.0', withLines(port, ['Transfer-Encoding: x', 'Content-Length: 5'], 'hello', 'POST /v1/responses HTTP/1.0'), 400],
  ];
}

/** Heads with malformed header lines or names. */
export function badHeaders(port: number): Malformed[] {
  const line = (text: string): string => withLines(port, ['Content-Length: 5', text]);
  const bytes = (raw: string): string => raw;
  return [
    ['bare LF as every line\'s end', withLines(port, ['Content-Length: 5']).replaceAll('\r\n', '\n'), 400],
    ['bare LF after the request line', withLines(port, ['Content-Length: 5']).replace('\r\n', '\n'), 400],
    ['bare LF after a header', line('X: y\nZ: z'), 400],
    ['bare LF before the empty line', bytes(`${requestLine}\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 5\n\r\nhello`), 400],
    ['bare LF as the empty line', bytes(`${requestLine}\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 5\r\n\nhello`), 400],
    ['bare CR after the request line', withLines(port, ['Content-Length: 5']).replace('\r\n', '\r'), 400],
    ['bare CR after a header', line('X: y\rZ: z'), 400],
    ['bare CR at the end of a value', line('X: y\r'), 400],
    ['CR CR LF after a header', line('X: y\r\r\nZ: z'), 400],
    ['bare CR as the empty line', bytes(`${requestLine}\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 5\r\n\rhello`), 400],
    ['bare CR in a name', line('X\rY: z'), 400],
    ['bare LF in a name', line('X\nY: z'), 400],
    ['NUL in a value', line('X: y\0z'), 400],
    ['NUL as a value', line('X: \0'), 400],
    ['NUL in a name', line('X\0Y: z'), 400],
    ['an escape in a value', line('X: \x1b[31m'), 400],
    ['DEL in a value', line('X: y\x7fz'), 400],
    ['a vertical tab in a value', line('X: y\vz'), 400],
    ['a backspace in a value', line('X: y\bz'), 400],
    ['a folded line', line('X: y\r\n z'), 400],
    ['a line folded with a tab', line('X: y\r\n\tz'), 400],
    ['a folded first line', bytes(`${requestLine}\r\n Host: 127.0.0.1:${port}\r\nContent-Length: 5\r\n\r\nhello`), 400],
    ['a line of one space', line(' '), 400],
    ['a Host folded', bytes(`${requestLine}\r\nHost:\r\n 127.0.0.1:${port}\r\nContent-Length: 5\r\n\r\nhello`), 400],
    ['a space before the colon', line('X : y'), 400],
    ['a tab before the colon', line('X\t: y'), 400],
    ['a space before Host\'s colon', bytes(`${requestLine}\r\nHost : 127.0.0.1:${port}\r\nContent-Length: 5\r\n\r\nhello`), 400],
    ['a space before a name', line(' X: y'), 400],
    ['a space in a name', line('X Y: z'), 400],
    ['an empty name', line(': y'), 400],
    ['a colon alone', line(':'), 400],
    ['no colon', line('X'), 400],
    ['no colon, with a value', line('X y'), 400],
    ['a name beyond ASCII', line('X\xe9: y'), 400],
    ['a name in UTF-8', line('X\xc3\xa9: y'), 400],
    ['a control character in a name', line('X\x01: y'), 400],
    ['DEL in a name', line('X\x7f: y'), 400],
    ...['"', '(', ')', ',', '/', ';', '<', '=', '>', '?', '@', '[', '\\', ']', '{', '}'].map((sign): Malformed => [`${sign} in a name`, line(`X${sign}Y: z`), 400]),
    ['a name beginning with (', line('(X: z'), 400],
    ['a header that is a request line', line('GET / HTTP/1.1'), 400],
  ];
}

/** Request lines other than POST, a target and a known version. */
export function badRequestLines(port: number): Malformed[] {
  const first = (text: string): string => withLines(port, ['Content-Length: 5'], 'hello', text);
  return [
    ['a tab after the method', first('POST\t/v1/responses HTTP/1.1'), 400],
    ['a tab before the version', first('POST /v1/responses\tHTTP/1.1'), 400],
    ['a tab in the target', first('POST /v1/\tresponses HTTP/1.1'), 400],
    ['a tab after the version', first('POST /v1/responses HTTP/1.1\t'), 400],
    ['a space after the version', first('POST /v1/responses HTTP/1.1 '), 400],
    ['a word after the version', first('POST /v1/responses HTTP/1.1 x'), 400],
    ['a space before the method', first(' POST /v1/responses HTTP/1.1'), 400],
    ['a vertical tab after the method', first('POST\v/v1/responses HTTP/1.1'), 400],
    ['a bare CR in the target', first('POST /v1/\rresponses HTTP/1.1'), 400],
    ['a bare CR after the method', first('POST\r/v1/responses HTTP/1.1'), 400],
    ['a bare CR before the version', first('POST /v1/responses\rHTTP/1.1'), 400],
    ['a bare CR before the line\'s end', first('POST /v1/responses HTTP/1.1\r'), 400],
    ['a bare LF in the target', first('POST /v1/\nresponses HTTP/1.1'), 400],
    ['NUL in the target', first('POST /v1/\0responses HTTP/1.1'), 400],
    ['NUL behind the target', first('POST /v1/responses\0 HTTP/1.1'), 400],
    ['NUL in the method', first('PO\0ST /v1/responses HTTP/1.1'), 400],
    ['an escape in the target', first('POST /v1/\x1b[2Jresponses HTTP/1.1'), 400],
    ['DEL in the target', first('POST /v1/responses\x7f HTTP/1.1'), 400],
    ['a method in lower case', first('post /v1/responses HTTP/1.1'), 400],
    ['a method in mixed case', first('Post /v1/responses HTTP/1.1'), 400],
    ['a method that only begins right', first('POSTS /v1/responses HTTP/1.1'), 400],
    ['a method that is cut short', first('POS /v1/responses HTTP/1.1'), 400],
    ['an unknown method', first('BREW /v1/responses HTTP/1.1'), 400],
    ['a method of signs', first('!#$% /v1/responses HTTP/1.1'), 400],
    ['a method of digits', first('1234 /v1/responses HTTP/1.1'), 400],
    ['a method of 100,000 letters', first(`${'A'.repeat(100_000)} /v1/responses HTTP/1.1`), 400, 431],
    ['no method', first(' /v1/responses HTTP/1.1'), 400],
    ['a target alone', first('/v1/responses'), 400],
    ['an answer\'s first line', first('HTTP/1.1 200 OK'), 400],
    ['no version', first('POST /v1/responses'), 400, 403],
    ...['HTTP/1.2', 'HTTP/1.9', 'HTTP/1.10', 'HTTP/11.1', 'HTTP/1.11', 'HTTP/01.1', 'HTTP/1.', 'HTTP/.1', 'HTTP/1', 'HTTP/', 'HTTP', 'HTTP/3.0', 'HTTP/4.2', 'HTTP/9.9',
      'HTTP/-1.1', 'HTTP/+1.1', 'HTTP/1.1.1', 'HTTP/1,1', 'HTTP /1.1', 'HTTP/ 1.1', 'HTTP/1 .1', 'HTTP/a.b', 'HTTP/x1.1', 'http/1.1', 'Http/1.1', 'HTTPS/1.1', 'HTP/1.1', 'XHTTP/1.1', 'ICE/1.0', 'SIP/2.0',
    ].map((version): Malformed => [`the version ${version}`, first(`POST /v1/responses ${version}`), 400]),
    ...['HTTP/0.9', 'HTTP/2.0'].map((version): Malformed => [`the version ${version}`, first(`POST /v1/responses ${version}`), 400, 403]),
    ...['POST /v1/responses', 'POST /v1/responses HTTP/0.9', 'POST /v1/responses HTTP/2.0'].map((line): Malformed =>
      [`${line}, with a wish to be kept alive`, withLines(port, ['Connection: keep-alive', 'Content-Length: 5'], 'hello', line), 400, 403]),
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 400, 403],
    ['a TLS client hello', `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03${'\x5a'.repeat(505)}`, 400],
    ['the PROXY protocol', 'PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n', 400],
    ['the PROXY protocol, version 2', '\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x01\x02\x03\x04', 400],
    ['SMTP', 'EHLO example.com\r\n', 400],
    ['Redis', '*1\r\n$4\r\nPING\r\n', 400],
    ['SSH', 'SSH-2.0-OpenSSH_9.9\r\n', 400],
    ['bytes of all kinds', Array.from({ length: 256 }, (_, code) => String.fromCharCode(255 - code)).join(''), 400],
    ['a target of 100,000 characters', first(`POST /${'v'.repeat(100_000)} HTTP/1.1`), 431],
    ['a header name of 100,000 characters', withLines(port, [`${'X'.repeat(100_000)}: y`, 'Content-Length: 5']), 431],
    ['a header value of 100,000 spaces', withLines(port, [`X: ${' '.repeat(100_000)}y`, 'Content-Length: 5']), 431],
    ['a header value of 100,000 tabs before a letter', withLines(port, [`X:${'\t'.repeat(100_000)}y`, 'Content-Length: 5']), 431],
    ['a header value of 100,000 characters', withLines(port, [`X: ${'y'.repeat(100_000)}`, 'Content-Length: 5']), 431],
  ];
}

/** Malformed chunked bodies behind a good head. */
export function badChunks(port: number): Malformed[] {
  const body = (text: string): string => withLines(port, ['Transfer-Encoding: chunked'], text);
  const rest = '\r\nhello\r\n0\r\n\r\n';
  const sizes = ['+5', '-5', '0x5', '5h', ' 5', '5 ', '\t5', '5\t', '5 ;a=b', '\v5', '5\v', '\0' + '5', '5\0', '"5"', '5,5', '5.0', 'x', '', '\xff', '10000000000000005', 'fffffffffffffffff', '5\r', '\r5', '5\r\r'];
  return [
    ...sizes.map((size): Malformed => [`a chunk size of ${JSON.stringify(size)}`, body(`${size}${rest}`), 400]),
    ...sizes.filter((size) => size !== '').map((size): Malformed => [`a second chunk size of ${JSON.stringify(size)}`, body(`5\r\nhello\r\n${size}${rest}`), 400]),
    ['a chunk size that ends in bare LF', body('5\nhello\r\n0\r\n\r\n'), 400],
    ['a chunk that ends in bare LF', body('5\r\nhello\n0\r\n\r\n'), 400],
    ['a chunk that ends in bare CR', body('5\r\nhello\r0\r\n\r\n'), 400],
    ['a chunk that does not end', body('5\r\nhello0\r\n\r\n'), 400],
    ['a chunk that is longer than it says', body('5\r\nhellooo\r\n0\r\n\r\n'), 400],
    ['a chunk that is shorter than it says', body('6\r\nhello\r\n0\r\n\r\n'), 400],
    ['a last chunk that ends in bare LF', body('5\r\nhello\r\n0\n\r\n'), 400],
    ['an end in bare LF', body('5\r\nhello\r\n0\r\n\n'), 400],
    ['an end in bare CR', body('5\r\nhello\r\n0\r\n\rx'), 400],
    ['bare CR in an extension', body('5;a\rb\r\nhello\r\n0\r\n\r\n'), 400],
    ['bare LF in an extension', body('5;a\nb\r\nhello\r\n0\r\n\r\n'), 400],
    ['an extension that ends in bare LF', body('5;a=b\nhello\r\n0\r\n\r\n'), 400],
    ['NUL in an extension', body('5;a\0\r\nhello\r\n0\r\n\r\n'), 400],
    ['bare CR in a quoted extension', body('5;a="\r"\r\nhello\r\n0\r\n\r\n'), 400],
    ['CR LF in a quoted extension', body('5;a="\r\n"\r\nhello\r\n0\r\n\r\n'), 400],
    ['a quoted extension that does not end', body('5;a="b\r\nhello\r\n0\r\n\r\n'), 400],
    ['a semicolon alone', body('5;\r\nhello\r\n0\r\n\r\n'), 400],
    ['an extension of 100,000 characters', body(`5;${'a'.repeat(100_000)}\r\nhello\r\n0\r\n\r\n`), 400, 413, 431],
    ['a trailer that ends in bare LF', body('5\r\nhello\r\n0\r\nX: y\n\r\n'), 400],
    ['a trailer with a space before the colon', body('5\r\nhello\r\n0\r\nX : y\r\n\r\n'), 400],
    ['a folded trailer', body('5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n'), 400],
    ['a trailer without a colon', body('5\r\nhello\r\n0\r\nX\r\n\r\n'), 400],
    ['a trailer without a name', body('5\r\nhello\r\n0\r\n: y\r\n\r\n'), 400],
    ['NUL in a trailer', body('5\r\nhello\r\n0\r\nX: \0\r\n\r\n'), 400],
    ['a trailer of 100,000 characters', body(`5\r\nhello\r\n0\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`), 400, 431],
  ];
}

/** Truncated requests: to be sent, followed by FIN. */
export function cutShort(port: number): Malformed[] {
  const whole = withLines(port, ['Content-Length: 5']);
  const chunks = withLines(port, ['Transfer-Encoding: chunked'], '5\r\nhello\r\n0\r\nX: y\r\n\r\n');
  const body = chunks.indexOf('\r\n\r\n') + 4;
  const cuts = (text: string, positions: readonly number[]): string[] => positions.map((position) => text.slice(0, position));
  return [
    ...cuts(whole, [1, 4, 5, 18, 19, 27, 28, 29, 35, whole.length - 10, whole.length - 8, whole.length - 6]).map((raw): Malformed => [`a head that ends after ${raw.length} bytes`, raw, 400]),
    ...cuts(whole, [whole.length - 5, whole.length - 1]).map((raw): Malformed => [`a body that ends ${whole.length - raw.length} bytes early`, raw, 400]),
    ...cuts(chunks, [body, body + 1, body + 2, body + 3, body + 7, body + 8, body + 9, body + 10, body + 11, body + 12, body + 13, body + 15, body + 17, body + 18, body + 19, chunks.length - 1])
      .map((raw): Malformed => [`chunks that end after ${JSON.stringify(raw.slice(body))}`, raw, 400]),
    ['a length of 2^64 - 1', withLines(port, ['Content-Length: 18446744073709551615']), 400],
    ['a length of 2^63', withLines(port, ['Content-Length: 9223372036854775808']), 400],
    ['a length of 2^53 + 1', withLines(port, ['Content-Length: 9007199254740993']), 400],
    ['a length of 2^32 + 5', withLines(port, ['Content-Length: 4294967301']), 400],
    ['a chunk of 2^64 - 1', withLines(port, ['Transfer-Encoding: chunked'], 'ffffffffffffffff\r\nhello\r\n0\r\n\r\n'), 400],
    ['a chunk of 2^32 + 5', withLines(port, ['Transfer-Encoding: chunked'], '100000005\r\nhello\r\n0\r\n\r\n'), 400],
  ];
}
