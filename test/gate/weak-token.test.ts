import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readClientToken } from '../../src/extras/client-token.ts';
import { startDaemon } from '../support/daemon.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';

const warning = '--client-token-file holds a token of less than 32 characters, which may be guessed; make one with: openssl rand -hex 32';
const hex = randomBytes(16).toString('hex');

function fileWith(token: string): string {
  const file = join(scratchFolder(), 'token');
  writeFileSync(file, `${token}\n`, { mode: 0o600 });
  return file;
}

// For all of them the same words: not even how long it is.
describe('a token that is short is told at start:', () => {
  test.each([
    ['three characters', 'abc'],
    ['31 hex digits', hex.slice(1)],
    ['padding does not count', `${hex.slice(16)}${'='.repeat(40)}`],
  ])('%s', (_, token) => {
    expect(readClientToken(fileWith(token))).toEqual({ token, weakness: warning });
  });

  test('without a word of what it is', async () => {
    const token = hex.slice(1);
    const { stderr } = await startDaemon({ args: ['--client-token-file', fileWith(token)] });
    expect(stderr.split('\n').filter((line) => line.includes('token'))).toEqual([`responses-api-proxy: ${warning}`]);
    expectNoPieceOf(token, stderr.replace(warning, ''));
  });
});

describe('a longer one is not:', () => {
  test.each([
    ['32 hex digits', hex],
    ['a UUID', '123e4567-e89b-42d3-a456-426614174000'],
    ['what openssl rand -hex 32 makes', randomBytes(32).toString('hex')],
    ['what openssl rand -base64 24 makes', randomBytes(24).toString('base64')],
  ])('%s', (_, token) => {
    expect(readClientToken(fileWith(token))).toEqual({ token, weakness: undefined });
  });
});
