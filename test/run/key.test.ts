import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { lineAreaBytes, readFirstLine } from '../../src/key/key-line.ts';
import { failureOf } from '../support/command-line.ts';
import { randomKey, runToExit, shell, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { expectNoPieceOf, expectNoStack, refusalOf } from '../support/messages.ts';
import { pipeWith } from '../support/pipe.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

const maxKeyBytes = 8 * 1024;

let upstream: Upstream;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
});

/** Starts a daemon and returns the key that the upstream gets. */
async function keyInUse(options: DaemonOptions): Promise<string | undefined> {
  const daemon = await startDaemon({ ...options, args: [...upstream.args, ...(options.args ?? [])] });
  const [response, request] = await Promise.all([ask(daemon.port), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  const values = request.values('authorization');
  expect(values).toHaveLength(1);
  return values[0]?.replace(/^Bearer /, '');
}

/** The key in what a pipe has, or still gets. */
function keyIn({ descriptor }: { readonly descriptor: number }): string {
  return readFirstLine(descriptor, Buffer.alloc(lineAreaBytes), false).key.toString('latin1');
}

/** The key where a pipe has `content`, and then ends. */
function keyOf(content: string | Uint8Array): string {
  const pipe = pipeWith(content);
  pipe.end();
  return keyIn(pipe);
}

describe('the first line of stdin is the key', () => {
  const key = 'sk-proj-Abc_123';
  const inputs: Record<string, string> = {
    'ended by a newline': `${key}\n`,
    'ended by CR LF': `${key}\r\n`,
    'ended by CR CR LF': `${key}\r\r\n`,
    'ended by the end of the input': key,
    'ended by CR and the end of the input': `${key}\r`,
    'followed by empty lines': `${key}\n\n\r\n\n`,
  };
  test.for(Object.entries(inputs))('%s', ([, content]) => {
    expect(keyOf(content)).toBe(key);
  });

  test('without waiting for the end of the input', () => {
    expect(keyIn(pipeWith(`${key}\n`))).toBe(key);
  });

  // No event says that a piece was read; what matters is that they arrive apart.
  test('in several pieces', () => {
    const pipe = pipeWith('sk');
    pipe.writeBy('for piece in -proj -Abc _12 3 "$1"; do sleep 0.01; printf %s "$piece"; done; echo', '\r');
    expect(keyIn(pipe)).toBe(key);
  });

  test('byte by byte, up to the end of the input', () => {
    const pipe = pipeWith('');
    pipe.writeBy('rest=$1; while [ -n "$rest" ]; do sleep 0.005; printf %s "${rest%"${rest#?}"}"; rest=${rest#?}; done', key);
    pipe.end();
    expect(keyIn(pipe)).toBe(key);
  });

  test('from a non-blocking pipe whose writer takes its time', () => {
    const pipe = pipeWith('', { isNonBlocking: true });
    pipe.writeBy('sleep 0.1; echo "$1"', key);
    expect(keyIn(pipe)).toBe(key);
  });

  test('from a real pipe', async () => {
    expect(await keyInUse({ prefix: ['sh', '-c', `printf '%s\\n' ${key} | "$@"`, 'sh'] })).toBe(key);
  });

  test('from a pipe whose writer stays', async () => {
    expect(await keyInUse({ prefix: ['sh', '-c', `{ printf '%s\\n' ${key}; exec sleep 60; } | "$@"`, 'sh'] })).toBe(key);
  });

  test('from a file, as by <<<', async () => {
    const file = join(scratchFolder(), 'key');
    writeFileSync(file, `${key}\n`, { mode: 0o600 });
    const stdin = openSync(file, 'r');
    try {
      expect(await keyInUse({ stdin })).toBe(key);
    } finally {
      closeSync(stdin);
    }
  });

  test('what comes after the start is nobody\'s concern', async () => {
    const daemon = await startDaemon({ args: upstream.args, stdin: (pipe) => pipe.write(`${key}\n`) });
    daemon.child.stdin?.write('more\n'.repeat(100));
    daemon.child.stdin?.end();
    const [response, request] = await Promise.all([ask(daemon.port), upstream.nextRequest()]);
    expect(response.status).toBe(200);
    expect(request.values('authorization')).toEqual([`Bearer ${key}`]);
    expect(daemon.exit).toBe(undefined);
  });
});

describe('accepted', () => {
  const accepted: Record<string, string> = {
    'one character': 'x',
    'every character of b64token': 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/==',
    'a JWT': 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_A',
    'every visible character': String.fromCharCode(...Array.from({ length: 0x7f - 0x21 }, (_, index) => 0x21 + index)),
    'fields between bars': 'LLM|1234567890|AbC-dEf_123',
    'fields between colons': 'id:secret',
    'many equals signs at the end': 'abc=====',
    'Base32': 'JBSWY3DPEB3W64TMMQ======',
    'one equals sign at the end': 'JBSWY3DPEB3W64TMMQ5A=',
    'an equals sign behind what is no name': 'sk-A=b',
    'an equals sign at the beginning': '=abc',
    'quotes inside': 'a"b"c',
    'a quote at one end': '"abc',
    'what begins with a dash': '--help',
    'a key as long as real ones': randomKey(),
    '8 KiB': 'k'.repeat(maxKeyBytes),
    'one byte less than 8 KiB': 'k'.repeat(maxKeyBytes - 1),
  };
  test.for(Object.entries(accepted))('%s', ([, key]) => {
    expect(keyOf(`${key}\n`)).toBe(key);
  });

  test.for([['without a newline', ''], ['with CR LF', '\r\n']])('8 KiB %s', ([, end]) => {
    const key = randomKey().repeat(60).slice(0, maxKeyBytes);
    expect(keyOf(`${key}${end}`)).toBe(key);
  });

  test('and used whole, however long', async () => {
    const key = randomKey().repeat(60).slice(0, maxKeyBytes);
    expect(await keyInUse({ stdin: key })).toBe(key);
  });
});

describe('refused', () => {
  const secret = 'sk-proj-0123456789abcdefghijklmnopqrstuvwxyz';
  const half = secret.length / 2;
  const inside = (text: string): string => `${secret.slice(0, half)}${text}${secret.slice(half)}\n`;
  const refused: Record<string, string | Uint8Array> = {
    'nothing, just the end': '',
    'an empty line': '\n',
    'CR LF only': '\r\n',
    'several empty lines': '\n\n\n',
    'a space inside': inside(' '),
    'a space before': ` ${secret}\n`,
    'a space after': `${secret} \n`,
    'a tab inside': inside('\t'),
    'a tab after': `${secret}\t\n`,
    'a CR inside': inside('\r'),
    'a NUL inside': inside('\0'),
    'a NUL after': `${secret}\0\n`,
    'a NUL after the line': `${secret}\n\0`,
    'DEL inside': inside('\x7f'),
    'the escape character inside': inside('\x1b'),
    'UTF-8 inside': Buffer.from(inside('é'), 'utf8'),
    'a byte order mark before': Buffer.from(`\ufeff${secret}\n`, 'utf8'),
    'a byte 0xff inside': Buffer.from(inside('\xff'), 'latin1'),
    'quotes around': `"${secret}"\n`,
    'a variable assignment': `OPENAI_API_KEY=${secret}\n`,
    'the scheme before': `Bearer ${secret}\n`,
    'a second line': `${secret}\n${secret}\n`,
    'a second line after an empty one': `${secret}\n\n${secret}`,
    'one more byte after the line': `${secret}\nx`,
    'a space after the line': `${secret}\n `,
    'one byte more than 8 KiB': `${secret.repeat(200).slice(0, maxKeyBytes + 1)}\n`,
    'one byte more than 8 KiB, without a newline': secret.repeat(200).slice(0, maxKeyBytes + 1),
    '60 KiB': `${secret.repeat(1_400)}\n`,
  };
  test.for(Object.entries(refused))('%s', async ([, content]) => {
    const { message, hint } = await failureOf(() => keyOf(content), 1);
    expectNoPieceOf(secret, message + hint);
  });

  test('more than 8 KiB, without waiting for the end of the input', async () => {
    const { message, hint } = await failureOf(() => keyIn(pipeWith(secret.repeat(300))), 1);
    expectNoPieceOf(secret, message + hint);
  });

  test('with nothing of it in what the daemon says', async () => {
    const exit = await runToExit({ stdin: inside(' ') });
    expect(refusalOf(exit, 1)).toBe('the key has characters that no key has');
    expectNoPieceOf(secret, exit.stderr);
  });

  test('/dev/null as stdin', async () => {
    refusalOf(await runToExit({ stdin: 'ignore' }), 1);
  });

  test('a closed stdin', async () => {
    refusalOf(await runToExit({ prefix: shell('exec <&-') }), 1);
  });

  test('a folder as stdin', async () => {
    const descriptor = openSync(scratchFolder(), 'r');
    try {
      expect((await failureOf(() => keyIn({ descriptor }), 1)).message).toMatch(/^cannot read the key from stdin: /);
    } finally {
      closeSync(descriptor);
    }
  });

  test('a terminal as stdin, without waiting for input', async (context) => {
    needs(context, 'command script');
    // `script` gives its command a terminal and passes on its exit code (-e); what the command writes arrives on our stdout.
    const exit = await runToExit({ prefix: ['sh', '-c', `exec script -qec "'$1'" /dev/null`, 'sh'], stdin: () => {} });
    expect(exit.code).toBe(1);
    expect(exit.stdout).toMatch(/^responses-api-proxy: .*terminal.*\r\nhint: .+\r\n/m);
    expectNoStack(exit.stdout);
  });
});

describe('each refusal says what is wrong', () => {
  const key = 'sk-proj-0123456789abcdefghijklmnopqrstuvwxyz';
  const utf16 = (text: string): Buffer => Buffer.from(text, 'utf16le');
  const wrong: readonly (readonly [what: string, stdin: string | Uint8Array, told: RegExp])[] = [
    ['nothing', '', /nothing came on stdin/],
    ['an empty first line', `\n${key}\n`, /first line on stdin is empty/],
    ['only CR in the first line', `\r\n${key}\n`, /first line on stdin is empty/],
    ['a space', `${key} \n`, /characters that no key has/],
    ['two lines', `${key}\n${key}\n`, /more than one line/],
    ['too many bytes', 'a'.repeat(maxKeyBytes + 1), /longer than 8192 bytes/],
    ['double quotes', `"${key}"\n`, /is in quotes/],
    ['single quotes', `'${key}'\n`, /is in quotes/],
    ['backticks', `\`${key}\`\n`, /is in quotes/],
    ['a line of a .env file', `OPENAI_API_KEY=${key}\n`, /NAME=value/],
    ['a line of a .env file with quotes', `A1_="${key}"\n`, /NAME=value/],
    ['UTF-16 with a byte order mark', utf16(`\ufeff${key}\r\n`), /characters that no key has\n.*UTF-16/],
    ['UTF-16 without one', utf16(`${key}\n`), /characters that no key has\n.*UTF-16/],
    ['UTF-16, big-endian', utf16(`\ufeff${key}\n`).swap16(), /characters that no key has\n.*UTF-16/],
    ['UTF-16, big-endian, without a mark', utf16(`${key}\n`).swap16(), /characters that no key has\n.*UTF-16/],
    ['UTF-8 with a byte order mark', Buffer.from(`\ufeff${key}\n`), /characters that no key has\n.*byte order mark/],
    ['UTF-8 with a byte order mark and quotes', Buffer.from(`\ufeff"${key}"\n`), /characters that no key has\n.*byte order mark/],
  ];
  test.for(wrong)('%s', async ([, stdin, told]) => {
    const { message, hint } = await failureOf(() => keyOf(stdin), 1);
    expect(`${message}\n${hint}`).toMatch(told);
    expectNoPieceOf(key, message + hint);
  });
});

test('the pipe is closed once the key is read: whoever writes more is told', async () => {
  const key = randomKey();
  let tell = (_error: NodeJS.ErrnoException): void => {};
  const broken = new Promise<NodeJS.ErrnoException>((resolve) => (tell = resolve));
  let write = (): void => {};
  await startDaemon({
    stdin: (pipe) => {
      pipe.once('error', tell);
      write = () => pipe.write(`${key}\n`);
      write();
    },
  });
  write();
  expect((await broken).code).toMatch(/^(EPIPE|ECONNRESET)$/);
});
