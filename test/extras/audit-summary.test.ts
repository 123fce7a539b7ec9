import { execFileSync, spawn } from 'node:child_process';
import { openSync, readFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { AuditLog } from '../../src/extras/audit/audit-log.ts';
import type { AuditRecord } from '../../src/extras/audit/audit-record.ts';
import { type CommandResult, audit, logOptions, record } from '../support/audit.ts';
import { launcher } from '../support/daemon-paths.ts';
import { runToExit, shell } from '../support/daemon.ts';
import { scratchFolder } from '../support/scratch.ts';

const noUser = 3_999_999_999;

let folder: string;
let files: string[];

/** A log in three files, as two rotations leave it, the oldest first: one request in the first, two in the next, four in the last. */
beforeEach(() => {
  folder = scratchFolder();
  const file = join(folder, 'audit.log');
  const log = new AuditLog(logOptions(file));
  files = [join(folder, 'audit.log.2'), join(folder, 'audit.log.1'), file];
  const requests: ReadonlyArray<ReadonlyArray<Partial<AuditRecord>>> = [
    [{ model: 'oldest', uid: userInfo().uid }],
    [{ model: 'middle', uid: noUser }, { model: 'middle', uid: undefined }],
    [
      { model: 'newest', decision: 'refused', ended: 'refused', rule: 'models', usage: undefined, uid: noUser },
      { model: 'newest', decision: 'would_refuse', rule: 'tools', rules: ['tools', 'models', 'tokens_total'], uid: noUser },
      { model: 'newest', decision: 'would_refuse', rule: 'tools', uid: noUser },
      { model: 'newest', uid: noUser },
    ],
  ];
  requests.forEach((some, index) => {
    for (const given of some) log.append(record(given));
    if (index === 2) return log.close();
    renameSync(file, files[index] ?? '');
    log.reopen();
  });
});

const summary = (...args: readonly string[]): Promise<CommandResult> => audit('summary', ...args);

/** In this process, or by the command where there is something on stdin, or the names of users are wanted. */
async function rows(args: readonly string[], stdin?: number | 'ignore'): Promise<Array<Record<string, unknown>>> {
  const exit = stdin === undefined ? undefined : await runToExit({ args: ['audit', 'summary', ...args, '--json'], stdin });
  const { code, stdout, said } = exit === undefined ? await summary(...args, '--json') : { ...exit, said: exit.stderr === '' ? [] : [exit.stderr] };
  expect({ code, said }).toEqual({ code: 0, said: [] });
  return stdout.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
}

const counts = (all: ReadonlyArray<Record<string, unknown>>, grouping: string): Record<string, unknown> =>
  Object.fromEntries(all.filter(({ by }) => by === grouping).map(({ name, requests }) => [String(name), requests]));

test('it counts by decision, by each rule, and by the name of the user, or the uid where there is none', async () => {
  const all = await rows(files, 'ignore');
  expect(counts(all, 'decision')).toEqual({ allowed: 4, refused: 1, would_refuse: 2 });
  expect(counts(all, 'rule')).toEqual({ models: 2, tools: 2, tokens_total: 1 });
  expect(counts(all, 'user')).toEqual({ [userInfo().username]: 1, [noUser]: 5, '-': 1 });
  expect(all.at(-1)).toMatchObject({ by: 'all', requests: 7 });
  const { stdout } = await summary(...files);
  expect(stdout).toMatch(/^DECISION +REQUESTS.*\nallowed +4 /m);
  expect(stdout).toMatch(/^RULE +REQUESTS.*\n(models|tools) +2 /m);
});

test('files count in the order of their chain, however they are given', async () => {
  for (const order of [[0, 1, 2], [2, 1, 0], [1, 2, 0]]) {
    const all = await rows(order.map((index) => files[index] ?? ''));
    expect(all.filter(({ by }) => by === 'model').map(({ name }) => name)).toEqual(['oldest', 'middle', 'newest']);
  }
});

describe('it reads', () => {
  test('files that are compressed by gzip, also of several members', async () => {
    const [oldest = '', middle = '', newest = ''] = files;
    writeFileSync(`${oldest}.gz`, gzipSync(readFileSync(oldest)));
    const text = readFileSync(middle);
    writeFileSync(`${middle}.gz`, Buffer.concat([gzipSync(text.subarray(0, 700)), gzipSync(text.subarray(700))]));
    expect((await rows([newest, `${middle}.gz`, `${oldest}.gz`])).at(-1)).toMatchObject({ requests: 7 });
  });

  test.each(['plain', 'gzip'])('standard input, %s, alone and among files', async (form) => {
    const file = files[1] ?? '';
    const input = join(folder, 'input');
    writeFileSync(input, form === 'gzip' ? gzipSync(readFileSync(file)) : readFileSync(file));
    expect((await rows(['-'], openSync(input, 'r'))).at(-1)).toMatchObject({ requests: 2 });
    expect((await rows([files[2] ?? '', '-', files[0] ?? ''], openSync(input, 'r'))).at(-1)).toMatchObject({ requests: 7 });
  });

  test('standard input that is a pipe, and comes in pieces', async () => {
    const child = spawn(launcher, ['audit', 'summary', '-', '--json'], { stdio: ['pipe', 'pipe', 'inherit'], env: { PATH: process.env['PATH'] } });
    const bytes = readFileSync(files[2] ?? '');
    for (let start = 0; start < bytes.length; start += 333) child.stdin.write(bytes.subarray(start, start + 333));
    child.stdin.end();
    let stdout = '';
    for await (const piece of child.stdout.setEncoding('utf8')) stdout += piece as string;
    expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({ by: 'all', requests: 4 });
  });

  test('a long line as one that is no record, compressed or not', async () => {
    const long = join(folder, 'long');
    const text = Buffer.concat([readFileSync(files[0] ?? ''), Buffer.from(`${'x'.repeat(2_000_000)}\n`)]);
    for (const bytes of [text, gzipSync(text)]) {
      writeFileSync(long, bytes);
      const { stdout, said } = await summary(long);
      expect(stdout).toMatch(/^all +1 /m);
      expect(said).toEqual([expect.stringMatching(/line 3 is longer than a record can be$/)]);
    }
  });
});

describe('it tells', () => {
  test('of a file that is missing in between', async () => {
    const { code, said } = await summary(files[0] ?? '', files[2] ?? '');
    expect(code).toBe(0);
    expect(said.join()).toMatch(/audit\.log: line 1 does not go on where another of the files ends/);
  });

  test('of the same file twice, which would count twice', async () => {
    const copy = join(folder, 'copy.gz');
    writeFileSync(copy, gzipSync(readFileSync(files[1] ?? '')));
    expect(await summary(files[1] ?? '', copy)).toMatchObject({ code: 1, stdout: '', said: [expect.stringMatching(/begin with the same record$/)] });
    expect(await summary(files[1] ?? '', files[1] ?? '')).toMatchObject({ code: 2, stdout: '', said: [expect.stringMatching(/same file twice$/)] });
  });

  test('of a gzip file that is cut or broken', async () => {
    const file = join(folder, 'cut.gz');
    writeFileSync(file, gzipSync(readFileSync(files[2] ?? '')));
    truncateSync(file, 300);
    expect(await summary(file)).toMatchObject({ code: 1, stdout: '', said: [expect.stringMatching(/cut\.gz: it is not a whole gzip file$/)] });
    writeFileSync(file, Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(100, 7)]));
    expect(await summary(file)).toMatchObject({ code: 1, stdout: '', said: [expect.stringMatching(/it is not a whole gzip file$/)] });
  });

  test('of a FIFO, without waiting, and of no file', async () => {
    const fifo = join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    expect(await runToExit({ args: ['audit', 'summary', fifo], stdin: 'ignore' })).toMatchObject({ code: 1, stderr: expect.stringMatching(/it is not a regular file/) });
    expect(await summary()).toMatchObject({ code: 2, said: [expect.stringMatching(/takes files, or - for standard input/)] });
    expect(await summary('-', '-')).toMatchObject({ code: 2 });
  });

  test('of a closed standard input', async () => {
    const exit = await runToExit({ args: ['audit', 'summary', '-'], stdin: 'ignore', prefix: shell('exec <&-') });
    expect(exit.signal).toBe(null);
    expect(exit.stderr).not.toMatch(/internal error/);
  });
});
