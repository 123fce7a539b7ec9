import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { seal } from '../../src/extras/audit/audit-chain.ts';
import { AuditLog } from '../../src/extras/audit/audit-log.ts';
import { checkout } from '../support/daemon-paths.ts';
import { audit, linesOf, logOptions, record, verdictOn } from '../support/audit.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

let file: string;
let whole: Buffer;
let lines: string[];
let lastHash: string;

beforeEach(() => {
  file = join(scratchFolder(), 'audit.log');
  const log = new AuditLog(logOptions(file));
  for (let i = 0; i < 5; i++) log.append(record({ bytesUp: i }));
  log.close();
  whole = readFileSync(file);
  lines = whole.toString('latin1').split(/(?<=\n)/);
  lastHash = String(linesOf(file).at(-1)?.['hash']);
});

function verdictOf(...changed: readonly string[]): ReturnType<typeof verdictOn> {
  writeFileSync(file, changed.join(''), 'latin1');
  return verdictOn(file);
}

test('a log as it was written is whole', async () => {
  expect(await verdictOn(file)).toMatchObject({ ok: true, records: 7, continues: undefined, lastHash, tornLines: 0, uncleanEnds: [], faults: [] });
  expect(await audit('verify', file)).toEqual({ code: 0, stdout: `${file}: 7 records, each as it was written\nthe last has hash ${lastHash}; 0 tokens are charged up to it\n`, said: [] });
});

test('any change of any byte is found, in its line', async () => {
  const log = Buffer.from(lines.slice(0, 3).join(''), 'latin1');
  let line = 1;
  for (let at = 0; at < log.length; at++) {
    const byte = log[at] ?? 0;
    for (const changed of [byte ^ 0x01, byte ^ 0x20, byte ^ 0x80, 0x0a, 0x00]) {
      if (changed === byte) continue;
      const copy = Buffer.from(log);
      copy[at] = changed;
      writeFileSync(file, copy);
      const verdict = await verdictOn(file);
      if (verdict.ok || verdict.line !== line) expect(verdict, `byte ${at} as ${changed}`).toMatchObject({ ok: false, line });
    }
    if (byte === 0x0a) line++;
  }
});

describe('lines that are', () => {
  const [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5];
  test.each<[what: string, order: number[], line: number]>([
    ['missing at the beginning', [b, c, d, e, f], 1],
    ['missing in the middle', [a, b, d, e, f], 3],
    ['missing but for the first and last', [a, f], 2],
    ['exchanged', [a, c, b, d, e, f], 2],
    ['there twice', [a, b, b, c, d, e, f], 3],
    ['there once more at the end', [a, b, c, d, e, f, a], 7],
  ])('%s', async (_, order, line) => {
    expect(await verdictOf(...order.map((index) => lines[index] ?? ''))).toMatchObject({ ok: false, line });
  });

  test.each([['empty', '\n'], ['JSON, but no records', '{"kind":"request"}\n'], ['text', 'hello\n'], ['very long', `${'x'.repeat(5000)}\n`], ['enormous', `${'x'.repeat(3_000_000)}\n`]])('%s', async (_, line) => {
    expect(await verdictOf(lines[0] ?? '', line, ...lines.slice(1))).toMatchObject({ ok: false, line: 2 });
    expect(await verdictOf(...lines, line)).toMatchObject({ ok: false, line: 8 });
  });

  test('made by somebody who knows how, but in the middle', async () => {
    const prev = /"hash":"(\w+)"/.exec(lines[1] ?? '')?.[1] ?? '';
    expect(await verdictOf(...lines.slice(0, 2), seal('{"kind":"request","time":""}', prev).line, ...lines.slice(2))).toMatchObject({ ok: false, line: 4 });
  });

  test('said to be torn', async () => {
    expect(await verdictOf(...lines.slice(0, 2), 'anything at all~torn\n', ...lines.slice(2))).toMatchObject({ ok: false, line: 3 });
    expect(await verdictOf(...lines.slice(0, 2), `${lines[2]?.trim()}~torn\n`, ...lines.slice(3))).toMatchObject({ ok: false, line: 3 });
  });
});

describe('what an unkeyed chain cannot tell', () => {
  test('records that are missing at the end, unless a later hash is known', async () => {
    expect(await verdictOf(...lines.slice(0, 4))).toMatchObject({ ok: true, records: 4 });
    expect(await audit('verify', file, '--contains', lastHash)).toMatchObject({ code: 1, said: [expect.stringMatching(/line 4 is the last one, and no record has the hash/)] });
  });

  test('that all was made anew, unless an earlier hash is known', async () => {
    let previous = '0'.repeat(64);
    const forged = lines.map((line) => {
      const made = seal(line.replace(/,"prev".*\n/, '}').replace('gpt-5', 'gpt-6'), previous);
      previous = made.hash;
      return made.line;
    });
    expect(await verdictOf(...forged)).toMatchObject({ ok: true, records: 7 });
    expect(await audit('verify', file, '--contains', lastHash)).toMatchObject({ code: 1 });
    expect(await audit('verify', file, '--contains', previous)).toMatchObject({ code: 0 });
  });
});

test('a torn last line is told, and where', async () => {
  truncateSync(file, whole.length - 10);
  expect(await audit('verify', file)).toMatchObject({ code: 1, stdout: '', said: [expect.stringMatching(/: line 7 is torn: its last \d+ bytes are no record$/)] });
});

test('the first broken line is named, and what is wrong with it', async () => {
  writeFileSync(file, whole.toString('latin1').replace('"bytes_up":2', '"bytes_up":3').replace('"bytes_up":4', '"bytes_up":3'));
  expect(await audit('verify', file)).toEqual({ code: 1, stdout: '', said: [`${file}: line 4 was changed: its bytes do not have its hash`] });
  expect(await audit('verify', file, '--json')).toEqual({ code: 1, stdout: expect.stringContaining('"faults":[{"line":4,"problem":"was changed: its bytes do not have its hash"}]}\n'), said: [] });
});

test('an empty file has nothing that could be broken', async () => {
  writeFileSync(file, '');
  expect(await audit('verify', file)).toMatchObject({ code: 0, stdout: `${file}: 0 records, each as it was written\n` });
});

test('the ten lines of Python in audit-chain.ts agree', async (context) => {
  needs(context, 'command python3');
  const source = readFileSync(join(checkout, 'src/extras/audit/audit-chain.ts'), 'utf8');
  const program = /in ten lines of Python:\n \*\n((?: \* {3}.*\n)+)/.exec(source)?.[1]?.replace(/^ \* {3}/gm, '') ?? '';
  expect(program.split('\n').length).toBeGreaterThan(8);
  const script = `${file}.py`;
  writeFileSync(script, program);
  expect(execFileSync('python3', [script, file], { encoding: 'utf8' })).toBe(`ends with ${lastHash}\n`);
  const original = `${file}.original`;
  copyFileSync(file, original);
  for (const [change, message] of [['"bytes_up":9', /^line 4 is not what was written/], ['', /^line 4 does not follow/]] as const) {
    const changed = lines.flatMap((line, index) => (index !== 3 ? [line] : change === '' ? [] : [line.replace(/"bytes_up":\d/, change)]));
    writeFileSync(file, changed.join(''));
    const { status, stderr } = spawnSync('python3', [script, file], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
  }
});
