import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { randomKey, runToExit, shell, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { expectNoPieceOf, expectNoStack, refusalOf } from '../support/messages.ts';
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
  test.for(Object.entries(inputs))('%s', async ([, stdin]) => {
    expect(await keyInUse({ stdin })).toBe(key);
  });

  test('without waiting for the end of the input', async () => {
    expect(await keyInUse({ stdin: (pipe) => pipe.write(`${key}\n`) })).toBe(key);
  });

  test('in several pieces', async () => {
    const stdin: DaemonOptions['stdin'] = async (pipe) => {
      for (const piece of ['sk', '-proj', '-Abc', '_12', '3', '\r', '\n']) {
        pipe.write(piece);
        // No event says that a piece was read; what matters is that they arrive apart.
        await pause(15);
      }
    };
    expect(await keyInUse({ stdin })).toBe(key);
  });

  test('byte by byte, up to the end of the input', async () => {
    const stdin: DaemonOptions['stdin'] = async (pipe) => {
      for (const byte of key) {
        pipe.write(byte);
        await pause(2);
      }
      pipe.end();
    };
    expect(await keyInUse({ stdin })).toBe(key);
  });

  test('from a real pipe', async () => {
    expect(await keyInUse({ prefix: ['sh', '-c', `printf '%s\\n' ${key} | "$@"`, 'sh'] })).toBe(key);
  });

  test('from a pipe whose writer stays', async () => {
    expect(await keyInUse({ prefix: ['sh', '-c', `{ printf '%s\\n' ${key}; exec sleep 60; } | "$@"`, 'sh'] })).toBe(key);
  });

  test('from a non-blocking pipe whose writer takes its time', async (context) => {
    needs(context, 'command python3');
    const script = 'import os,sys; r,w=os.pipe(); os.set_blocking(r,False); os.dup2(r,0)\n'
      + 'if os.fork()==0:\n import time; time.sleep(0.3); os.write(w,sys.argv[1].encode()+b"\\n"); time.sleep(60)\n'
      + 'else:\n os.close(w); os.execvp(sys.argv[2],sys.argv[2:])';
    expect(await keyInUse({ prefix: ['python3', '-c', script, key] })).toBe(key);
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
    'many equals signs at the end': 'abc=====',
    'what begins with a dash': '--help',
    'a key as long as real ones': randomKey(),
    '8 KiB': 'k'.repeat(maxKeyBytes),
    'one byte less than 8 KiB': 'k'.repeat(maxKeyBytes - 1),
  };
  test.for(Object.entries(accepted))('%s', async ([, key]) => {
    expect(await keyInUse({ stdin: `${key}\n` })).toBe(key);
  });

  test.for([['without a newline', ''], ['with CR LF', '\r\n']])('8 KiB %s', async ([, end]) => {
    const key = randomKey().repeat(60).slice(0, maxKeyBytes);
    expect(await keyInUse({ stdin: `${key}${end}` })).toBe(key);
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
    'only equals signs': '==\n',
    'an equals sign at the beginning': `=${secret}\n`,
    'an equals sign inside': inside('='),
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
    '1 MiB': `${secret.repeat(24_000)}\n`,
    // Characters next to the allowed ones in ASCII, and those that shells and JSON put around a key.
    ...Object.fromEntries([...',:@[`{}|!"%*'].map((character) => [`the character ${character}`, inside(character)])),
  };
  test.for(Object.entries(refused))('%s', async ([, stdin]) => {
    const exit = await runToExit({ stdin });
    refusalOf(exit, 1);
    expectNoPieceOf(secret, exit.stderr);
  });

  test('more than 8 KiB, without waiting for the end of the input', async () => {
    const exit = await runToExit({ stdin: (pipe) => pipe.write(secret.repeat(300)) });
    refusalOf(exit, 1);
    expectNoPieceOf(secret, exit.stderr);
  });

  test('/dev/null as stdin', async () => {
    refusalOf(await runToExit({ stdin: 'ignore' }), 1);
  });

  test('a closed stdin', async () => {
    refusalOf(await runToExit({ prefix: shell('exec <&-') }), 1);
  });

  test('a folder as stdin', async () => {
    const stdin = openSync(scratchFolder(), 'r');
    try {
      refusalOf(await runToExit({ stdin }), 1);
    } finally {
      closeSync(stdin);
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

test('each refusal says what is wrong', async () => {
  const reasons = await Promise.all(['', 'a b\n', 'a\nb\n', 'a'.repeat(maxKeyBytes + 1)].map(async (stdin) => refusalOf(await runToExit({ stdin }), 1)));
  expect(new Set(reasons).size).toBe(4);
});
