import { appendFileSync, readFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { seal } from '../../src/extras/audit/audit-chain.ts';
import { AuditLog } from '../../src/extras/audit/audit-log.ts';
import { audit, linesOf, logOptions, record } from '../support/audit.ts';
import { runToExit } from '../support/daemon.ts';
import { scratchFolder } from '../support/scratch.ts';

/** A log in four files, the oldest first. */
let files: string[];

beforeEach(() => {
  const file = join(scratchFolder(), 'audit.log');
  files = [3, 2, 1].map((age) => `${file}.${age}`);
  const log = new AuditLog(logOptions(file));
  log.start();
  for (const rotated of files) {
    log.append(record());
    renameSync(file, rotated);
    log.reopen();
  }
  log.append(record());
  files.push(file);
});

const [oldest, , third] = [0, 1, 2];
const nameOf = (index: number): string => files[index] ?? '';

test('a set is verified in any order, compressed or not', async () => {
  writeFileSync(`${nameOf(oldest)}.gz`, gzipSync(readFileSync(nameOf(oldest))));
  for (const order of [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]) {
    const given = order.map((index) => (index === oldest ? `${nameOf(index)}.gz` : nameOf(index)));
    const { code, stdout, said } = await audit('verify', ...given);
    expect({ code, said }).toEqual({ code: 0, said: [] });
    expect(stdout.match(/^.*(?=: \d+ records)/gm)).toEqual([`${nameOf(oldest)}.gz`, ...files.slice(1)]);
  }
});

test('the oldest ones may be gone', async () => {
  expect(await audit('verify', ...files.slice(1))).toMatchObject({ code: 0, said: [] });
});

describe('it exits 1 and tells the place, as the summary does, which exits 0, where', () => {
  test.each<[what: string, change: () => void, told: () => string[]]>([
    ['a file is missing', () => files.splice(third, 1), () => [`${nameOf(2)}: line 1 does not go on where another of the files ends: one between them is missing, or it is of another log`]],
    ['an end is torn', () => appendFileSync(nameOf(3), '{"kind":"requ'), () => [`${nameOf(3)}: line 3 is torn: its last 13 bytes are no record`]],
    ['records are lost', () => {
      const [last] = linesOf(nameOf(3)).slice(-1);
      appendFileSync(nameOf(3), seal(JSON.stringify({ kind: 'gap', time: '2026-01-31T12:00:00.000Z', lost: 5 }), String(last?.['hash'])).line);
    }, () => [`${nameOf(3)}: line 3 tells that records of 5 requests are lost`]],
    ['the end of one in the middle is cut off', () => truncateSync(nameOf(1), readFileSync(nameOf(1)).indexOf('\n') + 1), () => [`${nameOf(2)}: line 1 does not go on where another of the files ends: one between them is missing, or it is of another log`]],
    ['a line is changed, and another file is torn', () => {
      writeFileSync(nameOf(1), readFileSync(nameOf(1), 'latin1').replace('gpt-5', 'gpt-6'));
      appendFileSync(nameOf(3), '{');
    }, () => [`${nameOf(1)}: line 2 was changed: its bytes do not have its hash`, `${nameOf(3)}: line 3 is torn: its last 1 bytes are no record`]],
    ['what is charged was not admitted', () => {
      const [last] = linesOf(nameOf(3)).slice(-1);
      appendFileSync(nameOf(3), seal(JSON.stringify({ kind: 'request', time: '2026-01-31T12:00:00.000Z', id: 'a', charged: 5 }), String(last?.['hash'])).line);
    }, () => [`${nameOf(3)}: line 3 is charged, and was not admitted before`]],
  ])('%s', async (_, change, told) => {
    change();
    const { code, said } = await audit('verify', ...files);
    expect({ code, said }).toEqual({ code: 1, said: told() });
    expect(await audit('summary', ...files)).toMatchObject({ code: 0, said: told() });
    const lines = (await audit('verify', ...files, '--json')).stdout.trim().split('\n').map((line) => JSON.parse(line) as { ok: boolean });
    expect(lines.filter(({ ok }) => !ok).length).toBe(new Set(told().map((message) => message.split(':')[0])).size);
  });
});

test('a torn line that is accounted for is no fault, nor called changed', async () => {
  const whole = readFileSync(nameOf(3));
  truncateSync(nameOf(3), whole.length - 20);
  const log = new AuditLog(logOptions(nameOf(3)));
  log.start();
  log.close();
  for (const command of ['verify', 'summary', 'list']) expect(await audit(command, nameOf(3))).toMatchObject({ code: 0, said: [] });
  expect((await audit('verify', nameOf(3))).stdout).toContain('1 torn: their writes did not finish');
});

test('a hash that is known from earlier may be in any of them', async () => {
  const hash = String(linesOf(nameOf(1)).at(-1)?.['hash']);
  expect((await audit('verify', ...files, '--contains', hash)).code).toBe(0);
  expect(await audit('verify', ...files.slice(2), '--contains', hash)).toMatchObject({ code: 1, said: [expect.stringMatching(/audit\.log: line 2 is the last one, and no record has the hash/)] });
});

test('exit codes are in the help of each, and hold for cron', async () => {
  for (const command of ['list', 'summary', 'verify']) expect((await audit(command, '--help')).stdout).toMatch(/exits with\s+0: /);
  appendFileSync(nameOf(3), '{');
  expect(await runToExit({ args: ['audit', 'verify', ...files], stdin: 'ignore' })).toMatchObject({ code: 1, stderr: expect.stringMatching(/^responses-api-proxy: .*audit\.log: line 3 is torn: .*\nhint: /) });
  expect(await runToExit({ args: ['audit', 'verify'], stdin: 'ignore' })).toMatchObject({ code: 2 });
});

test('a log of a version that recorded no charges is refused, not miscounted', async () => {
  const begin = seal(JSON.stringify({ kind: 'begin', time: '2026-01-31T12:00:00.000Z', tokens: 5 }), '0'.repeat(64));
  const old = begin.line + seal(JSON.stringify({ kind: 'request', time: '2026-01-31T12:00:00.000Z', id: 'a', decision: 'allowed', bytes_up: 5, usage: { total: 100 } }), begin.hash).line;
  writeFileSync(nameOf(3), old, { mode: 0o600 });
  for (const command of ['verify', 'summary']) expect(await audit(command, nameOf(3))).toMatchObject({ code: 1, stdout: '', said: [expect.stringMatching(/: it is of an older version, which did not record what was charged$/)] });
  expect(() => new AuditLog(logOptions(nameOf(3)))).toThrow(/^cannot open --audit-log .*: it is of an older version/);
  expect(readFileSync(nameOf(3), 'latin1')).toBe(old);
});
