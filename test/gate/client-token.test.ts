import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readClientToken } from '../../src/extras/client-token.ts';
import { failureOf } from '../support/command-line.ts';
import { runToExit, startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { expectNoPieceOf, refusalOf } from '../support/messages.ts';
import { ask, connect, exchange, parseResponses, rawRequest, type RawResponse } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

const token = `${randomBytes(32).toString('base64url')}.~+/==`;
let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', '--client-token-file', tokenFile(token)] });
});

function tokenFile(content: string | Uint8Array): string {
  const file = join(scratchFolder(), 'token');
  writeFileSync(file, content, { mode: 0o600 });
  return file;
}

function expect401(response: RawResponse): void {
  expect(response.status).toBe(401);
  expect(response.values('www-authenticate')).toEqual(['Bearer']);
  expect(envelopeOf(response)).toMatchObject({ type: 'authentication_error', code: 'invalid_token' });
}

const right: Record<string, HeaderLines> = {
  'as it is': [['Authorization', `Bearer ${token}`]],
  'with the header\'s name in another case': [['aUTHORIZATION', `Bearer ${token}`]],
  // RFC 9110 section 11.4: the scheme's case does not matter, and there may be more than one space.
  'with the scheme in lower case': [['Authorization', `bearer ${token}`]],
  'with the scheme in upper case': [['Authorization', `BEARER ${token}`]],
  'with more spaces after the scheme': [['Authorization', `Bearer    ${token}`]],
  'with spaces around all of it': [['Authorization', `   Bearer ${token}   `]],
  'named by Connection': [['Connection', 'Authorization'], ['Authorization', `Bearer ${token}`]],
};

describe('the right token is served', () => {
  test.for(Object.entries(right))('%s', async ([, headers]) => {
    const before = upstream.requests.length;
    expect((await ask(daemon.port, { headers })).status).toBe(200);
    const [request, ...more] = upstream.requests.slice(before);
    expect(more).toEqual([]);
    expect(request?.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
    expectNoPieceOf(token, request?.rawHead ?? '');
  });
});

const flipped = (index: number): string => token.slice(0, index) + (token[index] === 'x' ? 'y' : 'x') + token.slice(index + 1);

const wrong: Record<string, HeaderLines> = {
  'none': [],
  'an empty header': [['Authorization', '']],
  'the scheme alone': [['Authorization', 'Bearer']],
  'the scheme and a space': [['Authorization', 'Bearer ']],
  'the token alone': [['Authorization', token]],
  'another token of the same length': [['Authorization', `Bearer ${'A'.repeat(token.length)}`]],
  'the first character wrong': [['Authorization', `Bearer ${flipped(0)}`]],
  'the last character wrong': [['Authorization', `Bearer ${flipped(token.length - 1)}`]],
  'the beginning of the token': [['Authorization', `Bearer ${token.slice(0, -1)}`]],
  'the first character of the token': [['Authorization', `Bearer ${token.slice(0, 1)}`]],
  'the end of the token': [['Authorization', `Bearer ${token.slice(1)}`]],
  'the token and one character': [['Authorization', `Bearer ${token}A`]],
  'the token and one more =': [['Authorization', `Bearer ${token}=`]],
  'the token twice': [['Authorization', `Bearer ${token}${token}`]],
  'the token in lower case': [['Authorization', `Bearer ${token.toLowerCase()}`]],
  'the token in quotes': [['Authorization', `Bearer "${token}"`]],
  'the token and a parameter': [['Authorization', `Bearer ${token} x`]],
  'the token and a comma': [['Authorization', `Bearer ${token},`]],
  'the token in a list': [['Authorization', `Bearer ${token}, Bearer ${token}`]],
  'the token before another': [['Authorization', `Bearer ${token}, Basic eDp5`]],
  'a no-break space before the token': [['Authorization', `Bearer \xa0${token}`]],
  'bytes beyond ASCII': [['Authorization', `Bearer ${token.replace(/.$/, '\xff')}`]],
  'its characters with the high bit set': [['Authorization', `Bearer ${[...token].map((char) => String.fromCharCode(char.charCodeAt(0) | 0x80)).join('')}`]],
  'the header twice, both right': [['Authorization', `Bearer ${token}`], ['Authorization', `Bearer ${token}`]],
  'the header twice, the first right': [['Authorization', `Bearer ${token}`], ['Authorization', 'Bearer x']],
  'the header twice, the second right': [['Authorization', 'Bearer x'], ['authorization', `Bearer ${token}`]],
  'the header twice, one empty': [['Authorization', ''], ['Authorization', `Bearer ${token}`]],
  'Basic with the token': [['Authorization', `Basic ${token}`]],
  'Basic with the token as password': [['Authorization', `Basic ${Buffer.from(`:${token}`).toString('base64')}`]],
  'Digest': [['Authorization', `Digest ${token}`]],
  'Token': [['Authorization', `Token ${token}`]],
  'Bearers': [['Authorization', `Bearers ${token}`]],
  'XBearer': [['Authorization', `XBearer ${token}`]],
  'no space after the scheme': [['Authorization', `Bearer${token}`]],
  'a colon after the scheme': [['Authorization', `Bearer: ${token}`]],
  'an = after the scheme': [['Authorization', `Bearer=${token}`]],
  'in Proxy-Authorization': [['Proxy-Authorization', `Bearer ${token}`]],
  'in X-Api-Key': [['X-Api-Key', token]],
  'in a cookie': [['Cookie', `Authorization=Bearer ${token}`]],
  '60,000 characters': [['Authorization', `Bearer ${'A'.repeat(60_000)}`]],
};

describe('anything else is refused', () => {
  test.for(Object.entries(wrong))('%s', async ([, headers]) => {
    const before = upstream.receivedBytes;
    expect401(await ask(daemon.port, { headers }));
    expect401(await ask(daemon.port, { method: 'GET', target: '/shutdown', headers }));
    expect(upstream.receivedBytes).toBe(before);
    expect(daemon.exit).toBe(undefined);
  });

  test('the key itself', async () => {
    expect401(await ask(daemon.port, { headers: [['Authorization', `Bearer ${daemon.key}`]] }));
  });

  test('1 MB', async () => {
    const before = upstream.receivedBytes;
    const response = await exchange(daemon.port, rawRequest(daemon.port, { headers: [['Authorization', `Bearer ${token}${'A'.repeat(1024 * 1024)}`]] }));
    expect(response.status).toBe(431);
    envelopeOf(response);
    expect(upstream.receivedBytes).toBe(before);
  });

  test('a request that waits for 100 Continue, at once and without one', async () => {
    const client = await connect(daemon.port);
    await client.send(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n`);
    const response = await client.response();
    expect(response.interim).toEqual([]);
    expect401(response);
  });

  test('a chunked upload that goes on', async () => {
    const client = await connect(daemon.port);
    await client.send(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`);
    expect401(await client.response());
    await client.send('5\r\nhello\r\n');
    expect(await client.waitForClose()).not.toBe('local');
  });

  test('requests on one connection, one by one', async () => {
    const good = rawRequest(daemon.port, { headers: [['Authorization', `Bearer ${token}`]] });
    const client = await connect(daemon.port);
    const before = upstream.requests.length;
    for (const [request, status] of [[good, 200], [rawRequest(daemon.port), 401], [good, 200], [rawRequest(daemon.port, { method: 'GET', target: '/shutdown' }), 401]] as const) {
      await client.send(request);
      expect((await client.response()).status).toBe(status);
    }
    expect(upstream.requests).toHaveLength(before + 2);
  });

  test('one that waits for 100 Continue, on a connection that has served another', async () => {
    const good = rawRequest(daemon.port, { headers: [['Authorization', `Bearer ${token}`]] });
    const client = await connect(daemon.port);
    await client.send(good);
    expect((await client.response()).status).toBe(200);
    await client.send(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n`);
    expect((await client.response()).status).toBe(401);
    expect(parseResponses(client.received, true)).toHaveLength(2);
  });
});

describe('a token file', () => {
  test.for([['without a newline', 'abc'], ['with one', 'abc\n'], ['with CR LF', 'abc\r\n'], ['of 8 KiB', `${'a'.repeat(8 * 1024)}\n`]])('%s', ([, content = '']) => {
    expect(readClientToken(tokenFile(content)).token).toBe(content.trim());
  });

  test.for<[string, string | Uint8Array]>([
    ['that is empty', ''], ['of a newline', '\n'], ['with two lines', 'abc\ndef\n'], ['with a space', 'abc def'], ['with a space at the end', 'abc \n'], ['with a tab', 'abc\t\n'], ['with a quote', '"abc"'],
    ['with a colon', 'abc:def'], ['with = inside', 'ab=c'], ['with a NUL', 'abc\0'], ['with a byte order mark', '\ufeffabc'], ['beyond ASCII', 'abcé'], ['of other bytes', Buffer.from([0x61, 0xff, 0x62])],
    ['of 64 KiB', 'a'.repeat(64 * 1024)],
  ])('%s is refused', async ([, content]) => {
    const { message, hint } = await failureOf(() => readClientToken(tokenFile(content)), 1);
    expect(message).toContain('--client-token-file');
    if (String(content).includes('abc')) expect(message + hint).not.toContain('abc');
  });

  test('that is missing is refused', async () => {
    expect((await failureOf(() => readClientToken(join(scratchFolder(), 'none')), 1)).message).toMatch(/^cannot read --client-token-file .*: no such file or directory$/);
  });

  test('that is a folder is refused', async () => {
    const folder = scratchFolder();
    expect(refusalOf(await runToExit({ args: ['--client-token-file', folder] }), 1)).toContain(`--client-token-file ${folder}`);
  });
});

test('with the token /shutdown stops', async () => {
  const other = await startDaemon({ args: [...upstream.args, '--http-shutdown', '--client-token-file', tokenFile(token)] });
  expect401(await ask(other.port, { method: 'GET', target: '/shutdown' }));
  expect((await ask(other.port, { method: 'GET', target: '/shutdown', headers: [['Authorization', `Bearer ${token}`]] })).status).toBe(200);
  expect((await other.waitForExit()).code).toBe(0);
});

afterAll(async () => {
  const { stderr, stdout } = await daemon.stop();
  // The log has every case above, by its first line or in a summary, and never the token.
  expectNoPieceOf(token, stderr + stdout);
  for (const request of upstream.requests) {
    expectNoPieceOf(token, request.values('authorization').join());
    if (request.rawHead.includes(token)) expect.fail('the token went upstream');
  }
});
