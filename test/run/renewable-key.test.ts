import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkRenewable } from '../../src/extras/renewal.ts';
import { cleanUp } from '../support/cleanup.ts';
import { failureOf } from '../support/command-line.ts';
import { randomKey, runToExit, shell, startDaemon, type Daemon } from '../support/daemon.ts';
import { chunk } from '../support/http-bytes.ts';
import { expectNoPieceOf, refusalOf } from '../support/messages.ts';
import { asking, Proxied } from '../support/proxied.ts';
import { responses } from '../support/endpoints.ts';
import { ask } from '../support/raw-client.ts';
import { renewalsOf, renewed, startRenewable, type Renewable } from '../support/renewals.ts';
import { runTool } from '../support/native-tools.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, streamHead, type Upstream } from '../support/upstream.ts';

const maxKeyBytes = 8 * 1024;

let upstream: Upstream;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
});

function start(): Promise<Renewable> {
  return startRenewable({ args: upstream.args });
}

/** The key that a request carries now. */
async function keyInUse({ port }: Daemon): Promise<string | undefined> {
  const before = upstream.requests.length;
  expect((await ask(port)).status).toBe(200);
  return upstream.requests[before]?.values('authorization')[0]?.replace(/^Bearer /, '');
}

/** One daemon for lines that leave it as they found it, but for its key. */
let shared: Renewable;

beforeAll(async () => {
  shared = await start();
});

/** Writes `text`, and waits until the key was renewed `count` times by it. */
async function renewing({ daemon, write }: Renewable, text: string | Uint8Array, count: number): Promise<void> {
  const before = renewalsOf(daemon);
  await write(text);
  await renewed(daemon, before + count);
}

describe('a further line is the new key', () => {
  const lines: Record<string, (key: string) => string> = {
    'ended by a newline': (key) => `${key}\n`,
    'ended by CR LF': (key) => `${key}\r\n`,
    'ended by CR CR LF': (key) => `${key}\r\r\n`,
  };
  test.for(Object.entries(lines))('%s', async ([, line]) => {
    const next = randomKey();
    await renewing(shared, line(next), 1);
    expect(await keyInUse(shared.daemon)).toBe(next);
  });

  test.for([1, 20, maxKeyBytes - 1, maxKeyBytes])('of %i bytes, after one of another length', async (length) => {
    const { daemon, renew } = shared;
    const keys = [length, 50, length].map((bytes) => randomKey().repeat(60).slice(0, bytes));
    for (const key of keys) {
      await renew(key);
      expect(await keyInUse(daemon)).toBe(key);
    }
  });

  test('in two halves, and not before the second', async () => {
    const { daemon, write, renew } = shared;
    const [first, next] = [randomKey(), randomKey()];
    await renew(first);
    await write(next.slice(0, 50));
    expect(await keyInUse(daemon)).toBe(first);
    await write(next.slice(50));
    expect(await keyInUse(daemon)).toBe(first);
    await renewing(shared, '\n', 1);
    expect(await keyInUse(daemon)).toBe(next);
  });

  test('byte by byte', async () => {
    const next = randomKey();
    for (const byte of next) {
      await shared.write(byte);
      await pause(2); // so that they arrive apart
    }
    await renewing(shared, '\n', 1);
    expect(await keyInUse(shared.daemon)).toBe(next);
  });

  test('the last one of two in one write', async () => {
    const [one, two] = [randomKey(), randomKey()];
    await renewing(shared, `${one}\n${two}\n`, 2);
    expect(await keyInUse(shared.daemon)).toBe(two);
  });

  test('the first of two in one write, when the second is half a line', async () => {
    const [one, two] = [randomKey(), randomKey()];
    await renewing(shared, `${one}\n${two.slice(0, 30)}`, 1);
    expect(await keyInUse(shared.daemon)).toBe(one);
    await renewing(shared, `${two.slice(30)}\n`, 1);
    expect(await keyInUse(shared.daemon)).toBe(two);
  });

  test('of many of the longest in one write', async () => {
    const keys = Array.from({ length: 20 }, () => randomKey().repeat(60).slice(0, maxKeyBytes));
    await renewing(shared, keys.map((key) => `${key}\n`).join(''), keys.length);
    expect(await keyInUse(shared.daemon)).toBe(keys.at(-1));
  });

  test('the same key again', async () => {
    const key = randomKey();
    for (let count = 0; count < 2; count++) await shared.renew(key);
    expect(await keyInUse(shared.daemon)).toBe(key);
  });
});

describe('what comes in the same write as the first line', () => {
  test.for([
    ['two lines, with CR', (one: string, two: string) => `${one}\r\n${two}\r\n`],
    ['two lines and half of a third', (one: string, two: string) => `${one}\n${two}\nhalf`],
  ] as const)('counts: %s', async ([, text]) => {
    const [one, two] = [randomKey(), randomKey()];
    const daemon = await startDaemon({ args: ['--renewable-key', ...upstream.args], stdin: (pipe) => pipe.write(text(one, two)) });
    await renewed(daemon, 1);
    expect(await keyInUse(daemon)).toBe(two);
  });

  test('counts: the first half of the second line', async () => {
    const [one, two] = [randomKey(), randomKey()];
    const daemon = await startDaemon({ args: ['--renewable-key', ...upstream.args], stdin: (pipe) => pipe.write(`${one}\n${two.slice(0, 40)}`) });
    expect(await keyInUse(daemon)).toBe(one);
    daemon.child.stdin?.write(`${two.slice(40)}\n`);
    await renewed(daemon, 1);
    expect(await keyInUse(daemon)).toBe(two);
  });

  test('counts up to the longest two keys', async () => {
    const [one, two] = [randomKey().repeat(60).slice(0, maxKeyBytes), randomKey().repeat(60).slice(0, maxKeyBytes)];
    const daemon = await startDaemon({ args: ['--renewable-key', ...upstream.args], stdin: (pipe) => pipe.write(`${one}\n${two}\n`) });
    await renewed(daemon, 1);
    expect(await keyInUse(daemon)).toBe(two);
  });
});

describe('a bad line changes nothing and is told without its text', () => {
  const secret = 'sk-proj-0123456789abcdefghijklmnopqrstuvwxyz';
  const half = secret.length / 2;
  const inside = (text: string): string => `${secret.slice(0, half)}${text}${secret.slice(half)}`;
  const wrongCharacters = /refused: it has characters/;
  const tooLong = /refused: it is longer than 8192 bytes/;
  const bad: Record<string, readonly [string, RegExp]> = {
    'empty': ['', /refused: it is empty/],
    'CR alone': ['\r', /refused: it is empty/],
    'a space inside': [inside(' '), wrongCharacters],
    'NUL inside': [inside('\0'), wrongCharacters],
    'NUL at the end': [`${secret}\0`, wrongCharacters],
    'CR inside': [inside('\r'), wrongCharacters],
    'UTF-8': [inside('é'), wrongCharacters],
    'the scheme before': [`Bearer ${secret}`, wrongCharacters],
    'one byte more than 8 KiB': [secret.repeat(200).slice(0, maxKeyBytes + 1), tooLong],
    '9 KiB': [secret.repeat(300).slice(0, 9 * 1024), tooLong],
    '12 KiB less a byte': [secret.repeat(300).slice(0, 12 * 1024 - 1), tooLong],
    '12 KiB': [secret.repeat(300).slice(0, 12 * 1024), tooLong],
    '1 MiB': [secret.repeat(24_000), tooLong],
    '1 MiB of NUL': ['\0'.repeat(1024 * 1024), tooLong],
  };
  test.for(Object.entries(bad))('%s', async ([, [line, said]]) => {
    const { daemon, write, renew } = shared;
    const [first, next] = [randomKey(), randomKey()];
    await renew(first);
    const told = daemon.stderr.length;
    await write(`${line}\n`);
    await expect.poll(() => daemon.stderr.slice(told), { interval: 5 }).toMatch(said);
    expect(await keyInUse(daemon)).toBe(first);
    // And the next line is read from its beginning.
    await renew(next);
    expect(await keyInUse(daemon)).toBe(next);
    expect(daemon.stderr.slice(told).match(/ refused: /g)).toHaveLength(1);
    expectNoPieceOf(secret, daemon.stderr);
  });

  test('garbage in any pieces, between good lines', async () => {
    const { daemon, write, renew } = shared;
    for (let round = 0; round < 5; round++) {
      // A NUL ends each line, or one of a single letter could be a key.
      await write(Buffer.from(randomBytes(3_000).toString('latin1').replaceAll('\n', '\0\n'), 'latin1'));
      await write('\0\n');
      const next = randomKey();
      await renew(next);
      expect(await keyInUse(daemon)).toBe(next);
    }
  });
});

describe('the end of stdin', () => {
  test('the last key stays in use, and it is told once', async () => {
    const { daemon, renew, stdin } = await start();
    const next = randomKey();
    await renew(next);
    stdin.end();
    await daemon.waitForStderr(/^responses-api-proxy: stdin has ended.*the key in use stays$/m);
    for (let count = 0; count < 3; count++) expect(await keyInUse(daemon)).toBe(next);
    const { code, stderr } = await daemon.stop();
    expect(code).toBe(0);
    expect(stderr.match(/stdin has ended/g)).toHaveLength(1);
  });

  test('what comes before it without a newline is no key', async () => {
    const { daemon, stdin } = await start();
    const cut = randomKey();
    stdin.end(cut.slice(0, 60));
    await daemon.waitForStderr(/the last line on stdin was refused: it has no end\n.*stdin has ended/);
    expectNoPieceOf(cut, daemon.stderr);
    expect(await keyInUse(daemon)).toBe(daemon.key);
  });

  test('right after the first line, with or without its newline', async () => {
    for (const end of ['\n', '']) {
      const key = randomKey();
      const daemon = await startDaemon({ args: ['--renewable-key', ...upstream.args], stdin: `${key}${end}` });
      await daemon.waitForStderr(/stdin has ended/);
      expect(await keyInUse(daemon)).toBe(key);
      expect(daemon.stderr).not.toContain('refused');
    }
  });
});

test('from a real pipe, whose writer is another process', async () => {
  const fifo = join(scratchFolder(), 'keys');
  expect((await runTool('mkfifo', [fifo])).code).toBe(0);
  const [one, two] = [randomKey(), randomKey()];
  const args = ['--renewable-key', ...upstream.args];
  const starting = startDaemon({ args, stdin: 'ignore', prefix: shell(`exec <'${fifo}'`) });
  const writer = runTool('sh', ['-c', 'exec >"$1"; echo "$2"; read -r _; echo "$3"; read -r _', 'sh', fifo, one, two], { input: '' });
  const daemon = await starting;
  await writer;
  await daemon.waitForStderr(/stdin has ended/);
  expect(renewalsOf(daemon)).toBe(1);
  expect(await keyInUse(daemon)).toBe(two);
});

test('an answer that runs is not disturbed', async () => {
  const quiet = await startUpstream();
  const { daemon, renew } = await startRenewable({ args: quiet.args });
  const both = new Proxied(quiet, daemon, responses);
  const { client, request } = await asking(both);
  await request.reply(`${streamHead()}${chunk('before,').toString('latin1')}`);
  await client.waitFor('before,');
  await renew(randomKey());
  await request.reply(Buffer.concat([chunk('after'), Buffer.from('0\r\n\r\n')]));
  expect((await client.response()).text()).toBe('before,after');
  expect(request.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
});

describe('refused', () => {
  test('a file on stdin', async () => {
    const file = join(scratchFolder(), 'key');
    const key = randomKey();
    writeFileSync(file, `${key}\n`);
    const exit = await runToExit({ args: ['--renewable-key'], stdin: openSync(file, 'r') });
    expect(refusalOf(exit, 1)).toContain('--renewable-key needs a pipe or a socket on stdin, not a file');
    expectNoPieceOf(key, exit.stderr);
  });

  test('/dev/null on stdin', async () => {
    refusalOf(await runToExit({ args: ['--renewable-key'], stdin: 'ignore' }), 1);
  });

  test('a folder on stdin', async () => {
    const descriptor = openSync(scratchFolder(), 'r');
    cleanUp(() => closeSync(descriptor));
    expect((await failureOf(() => checkRenewable(descriptor), 1)).message).toContain('not something else');
  });

  test('a terminal on stdin', async (context) => {
    needs(context, 'command script');
    const exit = await runToExit({ args: ['--renewable-key'], prefix: ['sh', '-c', `exec script -qec "'$1' $2" /dev/null`, 'sh'], stdin: () => {} });
    expect(exit.stdout).toMatch(/^responses-api-proxy: .*terminal/m);
  });

  test('a first line that is no key', async () => {
    const next = randomKey();
    const exit = await runToExit({ args: ['--renewable-key'], stdin: `no key\n${next}\n` });
    refusalOf(exit, 1);
    expectNoPieceOf(next, exit.stderr);
  });
});
