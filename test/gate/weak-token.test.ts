import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';

const warning = 'responses-api-proxy: --client-token-file holds a token of less than 128 bits, which can be guessed; make one with: openssl rand -hex 32\n';

async function stderrWith(token: string): Promise<string> {
  const file = join(scratchFolder(), 'token');
  writeFileSync(file, `${token}\n`, { mode: 0o600 });
  const daemon = await startDaemon({ args: ['--client-token-file', file] });
  return daemon.stderr;
}

const hex = randomBytes(16).toString('hex');

describe('a token that can be guessed is told at start, without a word of what it is:', () => {
  test.each([
    ['three characters', 'abc'],
    ['31 hex digits', hex.slice(1)],
    ['31 hex digits in upper case', hex.slice(1).toUpperCase()],
    ['21 characters of base64url', randomBytes(16).toString('base64url').slice(1)],
    ['padding does not count', `${hex.slice(16)}${'='.repeat(40)}`],
    ['digits alone', '31415926535897932384626433832795028841'],
    ['one character, many times', 'a'.repeat(200)],
    ['a short pattern, many times', 'abc-123'.repeat(30)],
  ])('%s', async (_, token) => {
    const stderr = await stderrWith(token);
    expect(stderr).toContain(warning);
    expectNoPieceOf(token, stderr.replace(warning, ''));
    // For all weak tokens the same: not even how long it is.
    expect(stderr.split('\n').filter((line) => line.includes('token'))).toEqual([warning.trim()]);
  });
});

describe('one of 128 bits is not:', () => {
  test.each([
    ['32 hex digits', hex],
    ['a UUID', '123e4567-e89b-42d3-a456-426614174000'],
    ['22 characters of base64url', randomBytes(16).toString('base64url')],
    ['what openssl rand -hex 32 makes', randomBytes(32).toString('hex')],
    ['what openssl rand -base64 24 makes', randomBytes(24).toString('base64')],
  ])('%s', async (_, token) => {
    expect(await stderrWith(token)).not.toContain('token');
  });
});
