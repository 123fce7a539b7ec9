import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { auditCommand } from '../../src/extras/audit/audit-command.ts';
import { AuditLog } from '../../src/extras/audit/audit-log.ts';
import type { AuditRecord } from '../../src/extras/audit/audit-record.ts';
import { audit, linesOf, logOptions, record } from '../support/audit.ts';
import { scratchFolder } from '../support/scratch.ts';

const day = 86_400_000;
const noon = Date.UTC(2026, 0, 31, 12);

let file: string;

beforeEach(() => {
  file = join(scratchFolder(), 'audit.log');
});

/** A log of a daemon that runs still: its last line is the last of these records. */
function write(...records: readonly Partial<AuditRecord>[]): void {
  const log = new AuditLog(logOptions(file));
  for (const given of records) log.append(record(given));
}

async function json(...argv: readonly string[]): Promise<Array<Record<string, unknown>>> {
  const { code, stdout } = await audit(...argv, '--json');
  expect(code).toBe(0);
  return stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('list', () => {
  test('shows the newest records first, as a table', async () => {
    write({ id: '1'.repeat(16) }, { id: '2'.repeat(16), time: noon + 1000, decision: 'refused', rule: 'host_not_allowed', method: 'GET', target: '/v1/models', status: 403,
      ended: 'refused', model: undefined, usage: undefined, uid: undefined, totalMs: 0.4 });
    const { stdout, code } = await audit('list', file);
    expect(code).toBe(0);
    const [head, second, first, begin, ...rest] = stdout.split('\n');
    expect(head).toMatch(/^TIME +ID +UID +MODEL +STATUS +ENDED +INPUT +OUTPUT +SECONDS +NOTE$/);
    expect(second).toMatch(/^2026-01-31T12:00:01.000Z +2{16} +403 +refused +0\.00 +refused \(host_not_allowed\): GET \/v1\/models$/);
    expect(first).toMatch(/^2026-01-31T12:00:00.000Z +1{16} +1000 +gpt-5 +200 +complete +1200 +300 +2\.35$/);
    expect(begin).toMatch(/the log begins$/);
    expect(rest).toEqual(['']);
    expect(second?.indexOf('403')).toBe(first?.indexOf('200'));
  });

  test('twenty of them, or --limit of them, or all --since a time', async () => {
    write(...Array.from({ length: 50 }, (_, index) => ({ time: noon + index * 3_600_000, bytesUp: index })));
    const ups = async (...argv: string[]): Promise<unknown[]> => (await json('list', file, ...argv)).map((line) => line['bytes_up']);
    const down = (from: number, to: number): number[] => Array.from({ length: from - to + 1 }, (_, index) => from - index);
    expect(await ups()).toEqual(down(49, 30));
    expect(await ups('--limit', '3')).toEqual([49, 48, 47]);
    expect(await ups('--limit=3')).toEqual([49, 48, 47]);
    expect(await ups('--since', '2026-02-01')).toEqual(down(49, 12));
    expect(await ups('--since', '2026-02-01', '--limit', '2')).toEqual([49, 48]);
    expect(await ups('--since', '2026-02-02T13:00')).toEqual([49]);
    expect(await ups('--since', '2026-02-02T13:00:00.001Z')).toEqual([]);
    expect((await ups('--since', '99999d')).length).toBe(51);
  });

  test('--since so long ago', async () => {
    const now = Date.now();
    write({ time: now - 3 * day, bytesUp: 1 }, { time: now - 100 * 60_000, bytesUp: 2 }, { time: now - 1000, bytesUp: 3 });
    for (const [ago, count] of [['4d', 3], ['2d', 2], ['2h', 2], ['90m', 1], ['30s', 1]] as const) {
      expect((await json('list', file, '--since', ago)).filter(({ kind }) => kind === 'request'), ago).toHaveLength(count);
    }
  });

  test('--json gives the records as they are', async () => {
    write({}, { model: 'a\u001b[31m' });
    expect(await json('list', file)).toEqual(linesOf(file).reverse());
  });

  test('no more of a large file is read than it takes', async () => {
    write(...Array.from({ length: 5000 }, (_, index) => ({ bytesUp: index })));
    const large = readFileSync(file);
    for (let copy = 0; copy < 20; copy++) appendFileSync(file, large);
    const before = readBytes();
    expect(await json('list', file)).toHaveLength(20);
    expect(readBytes() - before).toBeLessThan(64 * 1024);
  });

  test('whatever the number of lines and the size of blocks, none is lost or told twice', async () => {
    write(...Array.from({ length: 3000 }, (_, index) => ({ bytesUp: index, model: 'm'.repeat(index % 128) })));
    expect(await json('list', file, '--limit', '100000')).toEqual(linesOf(file).reverse());
  });
});

test('what somebody else has written into the file does no harm on a terminal', async () => {
  write({});
  appendFileSync(file, `{"time":"\\u001b[31m2027","kind":"\\u001b[0m","model":{"\\u001b":1},"uid":[],"usage":"\\u009b"}\n{"time":5}\nnull\n\u001b[31m\n[]\n`);
  for (const argv of [['list', file], ['list', file, '--json'], ['summary', file], ['summary', file, '--json']]) {
    const { stdout, said, code } = await audit(...argv);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^[\x20-\x7e\n]*$/);
    expect(said).toEqual([argv[0] === 'list' ? `4 lines are no record; responses-api-proxy audit verify ${file} tells which` : `${file}: line 3 is no record`]);
  }
});

test('a torn last line is passed over', async () => {
  write({ bytesUp: 1 }, { bytesUp: 2 });
  truncateSync(file, readFileSync(file).length - 3);
  expect((await json('list', file)).map((line) => line['bytes_up'])).toEqual([1, undefined]);
  expect((await json('summary', file)).at(-1)).toMatchObject({ by: 'all', requests: 1 });
  expect((await audit('list', file)).said).toEqual([]);
});

test('a file of one line without an end, and an empty one', async () => {
  for (const content of ['', '{', '\n', '\n\n', 'x'.repeat(10_000), `${'x'.repeat(3_000_000)}\nx`]) {
    writeFileSync(file, content);
    expect(await json('list', file)).toEqual([]);
    expect(await json('summary', file)).toHaveLength(1);
  }
});

describe('summary', () => {
  const requests: Array<Partial<AuditRecord>> = [
    { model: 'gpt-5', uid: 1000 },
    { model: 'gpt-5', uid: 1001, time: noon + day },
    { model: 'gpt-5-mini', uid: 1000, time: noon + day, usage: { input: 10, cached: undefined, output: 5, reasoning: undefined, total: 15 } },
    { model: 'gpt-5-mini', uid: 1000, time: noon + day, usage: undefined, ended: 'client_left', charged: 60_000 },
    { model: undefined, uid: undefined, time: noon + day, usage: undefined, decision: 'refused', rule: 'host_not_allowed', ended: 'refused' },
    { model: 'gpt-5', uid: 1000, time: noon + day, decision: 'would_refuse', rule: 'models' },
  ];
  const none = { refused: 0, unknown: 0, input: 0, cached: 0, output: 0, reasoning: 0, total: 0, charged: 0 };
  const one = { input: 1200, cached: 1024, output: 300, reasoning: 64, total: 1500 };
  const times = (count: number): Record<string, number> => Object.fromEntries(Object.entries(one).map(([kind, tokens]) => [kind, tokens * count]));

  test('adds up by model, day, user, decision and rule', async () => {
    write(...requests);
    expect(await json('summary', file)).toEqual([
      { by: 'model', name: 'gpt-5', requests: 3, ...none, ...times(3) },
      { by: 'model', name: 'gpt-5-mini', requests: 2, ...none, unknown: 1, input: 10, output: 5, total: 15, charged: 60_000 },
      { by: 'model', name: '-', requests: 1, ...none, refused: 1 },
      { by: 'day', name: '2026-01-31', requests: 1, ...none, ...times(1) },
      { by: 'day', name: '2026-02-01', requests: 5, refused: 1, unknown: 1, input: 2410, cached: 2048, output: 605, reasoning: 128, total: 3015, charged: 60_000 },
      { by: 'user', name: '1000', requests: 4, refused: 0, unknown: 1, input: 2410, cached: 2048, output: 605, reasoning: 128, total: 3015, charged: 60_000 },
      { by: 'user', name: '1001', requests: 1, ...none, ...times(1) },
      { by: 'user', name: '-', requests: 1, ...none, refused: 1 },
      { by: 'decision', name: 'allowed', requests: 4, refused: 0, unknown: 1, input: 2410, cached: 2048, output: 605, reasoning: 128, total: 3015, charged: 60_000 },
      { by: 'decision', name: 'refused', requests: 1, ...none, refused: 1 },
      { by: 'decision', name: 'would_refuse', requests: 1, ...none, ...times(1) },
      { by: 'rule', name: 'host_not_allowed', requests: 1, ...none, refused: 1 },
      { by: 'rule', name: 'models', requests: 1, ...none, ...times(1) },
      { by: 'all', requests: 6, refused: 1, unknown: 1, input: 3610, cached: 3072, output: 905, reasoning: 192, total: 4515, charged: 60_000 },
    ]);
  });

  test('--since a time', async () => {
    write(...requests);
    expect((await json('summary', file, '--since', '2026-02-01')).at(-1)).toMatchObject({ by: 'all', requests: 5 });
  });

  test('as tables, the largest first, the newest day first', async () => {
    write(...requests);
    const { stdout } = await audit('summary', file);
    expect(stdout).toBe([
      'MODEL       REQUESTS  REFUSED  NO USAGE  INPUT  CACHED  OUTPUT  REASONING  TOTAL  CHARGED',
      'gpt-5              3        0         0   3600    3072     900        192   4500        0',
      'gpt-5-mini         2        0         1     10       0       5          0     15    60000',
      '-                  1        1         0      0       0       0          0      0        0',
      '',
      'DAY         REQUESTS  REFUSED  NO USAGE  INPUT  CACHED  OUTPUT  REASONING  TOTAL  CHARGED',
      '2026-02-01         5        1         1   2410    2048     605        128   3015    60000',
      '2026-01-31         1        0         0   1200    1024     300         64   1500        0',
      '',
      'USER  REQUESTS  REFUSED  NO USAGE  INPUT  CACHED  OUTPUT  REASONING  TOTAL  CHARGED',
      '1000         4        0         1   2410    2048     605        128   3015    60000',
      '1001         1        0         0   1200    1024     300         64   1500        0',
      '-            1        1         0      0       0       0          0      0        0',
      '',
      'DECISION      REQUESTS  REFUSED  NO USAGE  INPUT  CACHED  OUTPUT  REASONING  TOTAL  CHARGED',
      'allowed              4        0         1   2410    2048     605        128   3015    60000',
      'refused              1        1         0      0       0       0          0      0        0',
      'would_refuse         1        0         0   1200    1024     300         64   1500        0',
      '',
      'RULE              REQUESTS  REFUSED  NO USAGE  INPUT  CACHED  OUTPUT  REASONING  TOTAL  CHARGED',
      'host_not_allowed         1        1         0      0       0       0          0      0        0',
      'models                   1        0         0   1200    1024     300         64   1500        0',
      '',
      '     REQUESTS  REFUSED  NO USAGE  INPUT  CACHED  OUTPUT  REASONING  TOTAL  CHARGED',
      'all         6        1         1   3610    3072     905        192   4515    60000',
      '',
    ].join('\n'));
  });

  test('so many models that they would fill the memory are taken together', async () => {
    write(...Array.from({ length: 12_000 }, (_, index) => ({ model: `model-${index}` })));
    const models = (await json('summary', file)).filter(({ by }) => by === 'model');
    expect(models).toHaveLength(10_001);
    expect(models.find(({ name }) => name === 'others')).toMatchObject({ requests: 2000 });
  });
});

describe('wrong arguments exit 2', () => {
  test.each<[argv: string[], why: RegExp]>([
    [[], /audit takes one of list, summary, verify/],
    [['lists', 'FILE'], /audit takes one of/],
    [['--json'], /audit takes one of/],
    [['list'], /audit list takes one file/],
    [['list', 'FILE', 'FILE'], /audit list takes one file/],
    [['list', ''], /audit list takes one file/],
    [['list', 'FILE', '--nope'], /unknown flag --nope/],
    [['list', 'FILE', '--contains', 'x'], /unknown flag --contains/],
    [['summary', 'FILE', '--limit', '5'], /unknown flag --limit/],
    [['verify', 'FILE', '--since', '5d'], /unknown flag --since/],
    [['list', 'FILE', '-n', '5'], /^unknown flag$/],
    [['list', 'FILE', '--no-json'], /unknown flag --no-json/],
    [['list', 'FILE', '--', 'x'], /^unknown flag$/],
    [['list', 'FILE', '--sk-proj-abcdefghijklmnopqrstuvwxyz'], /^unknown flag$/],
    [['list', 'FILE', '--json=yes'], /--json takes no value/],
    [['list', 'FILE', '--json', '--json'], /--json was given twice/],
    [['list', 'FILE', '--limit', '1', '--limit', '2'], /--limit was given twice/],
    [['list', 'FILE', '--limit'], /--limit needs a value/],
    [['list', 'FILE', '--limit='], /--limit needs a value/],
    [['list', 'FILE', '--limit', ''], /--limit needs a value/],
    [['list', 'FILE', '--limit', '--json'], /--limit needs a value/],
    [['list', 'FILE', '--limit', '0'], /--limit takes a number/],
    [['list', 'FILE', '--limit', '1e3'], /--limit takes a number/],
    [['list', 'FILE', '--limit', '1.5'], /--limit takes a number/],
    [['list', 'FILE', '--since', 'yesterday'], /--since takes a time/],
    [['list', 'FILE', '--since', '2026-02-31'], /--since takes a time/],
    [['list', 'FILE', '--since', '2026-01-31T25:00'], /--since takes a time/],
    [['list', 'FILE', '--since', '2026-01-31T12:00+01:00'], /--since takes a time/],
    [['list', 'FILE', '--since', '5'], /--since takes a time/],
    [['verify', 'FILE', '--contains', 'abc'], /--contains takes a hash/],
  ])('%j', async (argv, why) => {
    write({});
    const result = await audit(...argv.map((argument) => (argument === 'FILE' ? file : argument)));
    expect(result).toEqual({ code: 2, stdout: '', said: [expect.stringMatching(why)] });
  });
});

test.each([[['--help']], [['list', '--help']], [['summary', '--help']], [['verify', '--help']]])('%j shows how it is used', async (argv) => {
  const { code, stdout, said } = await audit(...argv);
  expect({ code, said }).toEqual({ code: 0, said: [] });
  expect(stdout).toContain('responses-api-proxy audit');
  expect(stdout.split('\n').filter((line) => line.length > 120)).toEqual([]);
  if (argv.length > 1) expect(stdout).toContain('--json');
  expect(stdout).not.toMatch(/--version|undefined/);
});

describe('what cannot be read exits 1', () => {
  test.each<[what: string, make: () => void, why: RegExp]>([
    ['no file', () => {}, /: no such file or directory$/],
    ['a folder', () => mkdirSync(file), /: it is not a regular file$/],
    ['a FIFO, without waiting for a writer', () => execFileSync('mkfifo', [file]), /: it is not a regular file$/],
  ])('%s', async (_, make, why) => {
    make();
    for (const command of ['list', 'summary', 'verify']) expect(await audit(command, file)).toEqual({ code: 1, stdout: '', said: [expect.stringMatching(why)] });
  });
});

test('an output that nobody reads any more ends the list', async () => {
  write(...Array.from({ length: 3000 }, () => ({})));
  let writes = 0;
  const closed = new Writable({
    write(_chunk, _encoding, done) {
      writes++;
      done(Object.assign(new Error('closed'), { code: 'EPIPE' }));
    },
  });
  expect(await auditCommand(['list', file, '--limit', '3000', '--json'], { stdout: closed, say: () => {} })).toBe(0);
  expect(writes).toBe(1);
});

/** How many bytes this process has read so far. */
function readBytes(): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);
}

describe('a file that logrotate has compressed', () => {
  beforeEach(() => {
    write({ id: '1'.repeat(16) }, { id: '2'.repeat(16) });
    writeFileSync(`${file}.gz`, gzipSync(readFileSync(file)));
  });

  test('is verified as it is', async () => {
    const { code, stdout } = await audit('verify', `${file}.gz`);
    expect(code).toBe(0);
    expect(stdout).toContain('3 records, each as it was written');
    const text = readFileSync(file, 'latin1');
    writeFileSync(`${file}.gz`, gzipSync(text.replace('1'.repeat(16), '3'.repeat(16))));
    expect(await audit('verify', `${file}.gz`)).toMatchObject({ code: 1, said: [expect.stringContaining('line 2 was changed')] });
  });

  test('is not listed, which takes it from its end', async () => {
    expect(await audit('list', `${file}.gz`)).toMatchObject({ code: 1, said: [expect.stringContaining('it is compressed')] });
  });
});

test('a file without one whole record is no audit log', async () => {
  for (const content of ['hello', 'hello\n', gzipSync('hello')]) {
    writeFileSync(file, content);
    expect((await audit('verify', file)).code).toBe(1);
  }
});
