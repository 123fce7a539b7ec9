import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, chownSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';
import { AuditLog } from '../../src/extras/audit/audit-log.ts';
import { linesOf, logOptions, openLog, record, requestsOf, verdictOn } from '../support/audit.ts';
import { cleanUp } from '../support/cleanup.ts';
import { nobody } from '../support/daemon.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { Random, seed } from '../support/random.ts';

const writer = fileURLToPath(new URL('../support/audit-writer-process.mjs', import.meta.url));

let folder: string;
let file: string;

beforeEach(() => {
  folder = scratchFolder();
  file = join(folder, 'audit.log');
});

/** The largest file that this process may write, in bytes: the soft limit, which any user may raise again. */
function limitFiles(bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
}

/** A log with so many records, closed. */
function written(count: number): Buffer {
  const log = new AuditLog(logOptions(file));
  for (let i = 0; i < count; i++) log.append(record({ bytesUp: i }));
  log.close();
  return readFileSync(file);
}

describe('the file', () => {
  test('is new, 0600 whatever the umask, and begins a chain', async () => {
    const umask = process.umask(0);
    try {
      openLog(file);
    } finally {
      process.umask(umask);
    }
    expect(statSync(file).mode & 0o7777).toBe(0o600);
    expect(linesOf(file)).toMatchObject([{ kind: 'begin', prev: '0'.repeat(64) }, { kind: 'start' }]);
  });

  test('is gone on with when it is there', async () => {
    written(3);
    const log = openLog(file);
    log.append(record());
    expect(linesOf(file).map(({ kind }) => kind)).toEqual(['begin', 'request', 'request', 'request', 'stop', 'start', 'request']);
    expect(await verdictOn(file)).toMatchObject({ ok: true, records: 7, lastHash: linesOf(file).at(-1)?.['hash'], tornLines: 0, continues: undefined });
  });

  test('may have been made beforehand, empty', async () => {
    writeFileSync(file, '', { mode: 0o640 });
    openLog(file).append(record());
    expect(await verdictOn(file)).toMatchObject({ ok: true, records: 3 });
  });

  test('has each record when append returns', async () => {
    const log = openLog(file);
    for (let i = 0; i < 10; i++) {
      log.append(record({ bytesUp: i }));
      expect(linesOf(file).at(-1)?.['bytes_up']).toBe(i);
    }
  });

  test.each<[what: string, make: () => void, why: RegExp]>([
    ['a symbolic link', () => symlinkSync(join(folder, 'other'), file), /it is a symbolic link/],
    ['a folder', () => mkdirSync(file), /directory/],
    ['a FIFO', () => execFileSync('mkfifo', [file]), /not a regular file/],
    ['a file with two names', () => linkSync((written(1), file), join(folder, 'other')), /more than one name/],
    ['a file that others may write to', () => (written(1), chmodSync(file, 0o620)), /others may write/],
    ['some other file', () => writeFileSync(file, 'root:x:0:0\n'), /no record/],
    ['some other file without a line', () => writeFileSync(file, 'x'.repeat(100)), /not an audit log/],
    ['some large file', () => writeFileSync(file, 'x'.repeat(200_000)), /not that of an audit log/],
    ['a log in a folder that is not there', () => (file = join(folder, 'none', 'audit.log')), /no such file/],
    ['a log whose last record was changed', () => writeFileSync(file, written(2).toString('latin1').replace(/"kind":"stop"/, '"kind":"step"')), /was changed/],
    ['a log whose last byte was changed', () => writeFileSync(file, `${written(2).toString('latin1').slice(0, -1)} `), /not that of an audit log/],
  ])('%s is refused', async (_, make, why) => {
    make();
    expect(() => openLog(file)).toThrow(why);
    expect(() => openLog(file)).toThrow(/^cannot open --audit-log /);
  });

  test('another user\'s is refused', async (context) => {
    needs(context, 'root');
    written(1);
    chownSync(file, nobody.uid, nobody.gid);
    expect(() => openLog(file)).toThrow(/belongs to another user/);
  });

  test('is given to its owner', async (context) => {
    needs(context, 'root');
    const options = { ...logOptions(file), owner: { name: 'nobody', ...nobody } };
    const log = new AuditLog(options);
    log.close();
    expect(statSync(file)).toMatchObject(nobody);
    new AuditLog(options).close();
  });

  test('that is locked by another process, or cannot be locked, is refused', async () => {
    expect(() => new AuditLog({ ...logOptions(file), lock: () => false })).toThrow(/another process/);
    const lock = (): boolean => {
      throw Object.assign(new Error('ENOLCK: No locks available, flock'), { code: 'ENOLCK', errno: -37 });
    };
    expect(() => new AuditLog({ ...logOptions(file), lock })).toThrow(/^cannot open --audit-log .*: it cannot be locked: /);
  });
});

describe('a write that did not finish', () => {
  test('at any byte: the chain goes on behind it, and is whole', async () => {
    const whole = written(2);
    const start = whole.lastIndexOf('\n', whole.length - 2) + 1;
    for (let end = start + 1; end < whole.length; end++) {
      writeFileSync(file, whole.subarray(0, end));
      expect(await verdictOn(file)).toMatchObject({ records: 3, faults: [{ line: 4, problem: `is torn: its last ${end - start} bytes are no record` }] });
      const log = new AuditLog(logOptions(file));
      log.append(record());
      log.close();
      const verdict = await verdictOn(file);
      if (!verdict.ok || verdict.tornLines !== 1 || verdict.records !== 6) expect(verdict, `cut at ${end}`).toMatchObject({ ok: true, records: 6, tornLines: 1 });
    }
  });

  test('of an admission or an end, at any byte: what the next start closes and counts is what the lines say', async () => {
    const log = openLog(file);
    for (const id of ['a', 'b']) log.admit({ id, uid: 1, model: 'gpt-5', serviceTier: undefined, reasoningMode: undefined, time: Date.now(), estimate: 5 });
    log.append(record({ id: 'a', charged: 9 }));
    log.admit({ id: 'c', uid: 1, model: 'gpt-5', serviceTier: undefined, reasoningMode: undefined, time: Date.now(), estimate: 5 });
    const whole = readFileSync(file);
    const ends = [...whole.toString('latin1').matchAll(/\n/g)].map(({ index }) => index);
    for (let end = whole.indexOf('{"kind":"admitted"'); end <= whole.length; end++) {
      const lines = ends.filter((at) => at < end).length;
      const expected = [0, 5, 10, 14, 19][lines - 2];
      writeFileSync(file, whole.subarray(0, end));
      const next = new AuditLog(logOptions(file));
      next.start();
      next.close();
      const { ok, ledger } = await verdictOn(file);
      if (!ok || ledger.tokens !== expected || next.ledger.tokens !== expected || ledger.open.size > 0) expect({ end, ok, verified: ledger.tokens, counted: next.ledger.tokens }).toEqual({ end, ok: true, verified: expected, counted: expected });
    }
  });

  test('of the very first line, at any byte', async () => {
    const whole = written(0);
    const first = whole.subarray(0, whole.indexOf('\n'));
    for (let end = 1; end <= first.length; end++) {
      writeFileSync(file, first.subarray(0, end));
      // What the files before it were charged is lost with it.
      expect(() => openLog(file), `cut at ${end}`).toThrow(/its first lines are not whole/);
    }
  });

  test('and another one while that is told, at any byte', async () => {
    const whole = written(1);
    writeFileSync(file, whole.subarray(0, -50));
    openLog(file);
    const recovered = readFileSync(file);
    const told = recovered.indexOf('\n{"kind":"start"');
    for (let end = whole.length - 49; end <= told; end++) {
      writeFileSync(file, recovered.subarray(0, end));
      const log = new AuditLog(logOptions(file));
      log.append(record());
      log.close();
      // The first line, a record, what was said about the torn one, a record, and the stop.
      const verdict = await verdictOn(file);
      expect(verdict.ok && verdict.records, `cut at ${end}`).toBe(5);
    }
  });

  test('what is left of it cannot be changed or removed either', async () => {
    const whole = written(2);
    writeFileSync(file, whole.subarray(0, -50));
    new AuditLog(logOptions(file)).close();
    const recovered = readFileSync(file, 'latin1');
    const torn = recovered.split('\n').findIndex((line) => line.endsWith('~torn'));
    writeFileSync(file, recovered.replace('~torn', 'X~torn'));
    expect(await verdictOn(file)).toMatchObject({ ok: false, line: torn + 1 });
    writeFileSync(file, recovered.split('\n').filter((line) => !line.endsWith('~torn')).join('\n'));
    expect(await verdictOn(file)).toMatchObject({ ok: false, line: torn + 1 });
  });

  test(`kill -9 in the middle of writing, again and again: the log is whole, and goes on (seed ${seed})`, async () => {
    const random = new Random(seed);
    for (let round = 0; round < 8; round++) {
      const child = spawn(process.execPath, [writer, file], { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, random.whole(5, 60))); // in the middle of which write does not matter
      const exited = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await exited;
      const torn = (await verdictOn(file)).faults.filter(({ problem }) => !problem.startsWith('is torn: '));
      expect(torn).toEqual([]);
    }
    openLog(file).append(record());
    const verdict = await verdictOn(file);
    expect(verdict.ok && verdict.records).toBeGreaterThan(100);
  });
});

describe('a lost file', () => {
  test.each<[what: string, lose: () => void, why: RegExp]>([
    ['removed', () => unlinkSync(file), /it was removed/],
    ['emptied', () => truncateSync(file, 0), /it was cut/],
    ['cut', () => truncateSync(file, statSync(file).size - 1), /it was cut/],
    ['written to', () => appendFileSync(file, '\n'), /another program writes to it/],
    ['in a folder that was removed', () => rmSync(folder, { recursive: true }), /it was removed/],
  ])('%s: told once, not written to, not ready', async (_, lose, why) => {
    const said: string[] = [];
    const log = openLog(file, said);
    log.append(record());
    expect(log.ready()).toBe(true);
    lose();
    expect(log.ready()).toBe(false);
    log.append(record());
    log.append(record());
    expect(log.ready()).toBe(false);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(why);
    expect(log.missing).toBe(2);
  });

  test.each<[what: string, move: () => void]>([
    ['renamed', () => {}],
    ['renamed, with another file in its place', () => writeFileSync(file, '', { mode: 0o600 })],
    ['renamed, in a folder that is closed', () => chmodSync(folder, 0)],
  ])('rotation: %s, it stays the log; reopened, one chain over both files, nothing missing', async (_, move) => {
    const said: string[] = [];
    const log = openLog(file, said);
    log.append(record({ bytesUp: 1 }));
    renameSync(file, `${file}.1`);
    move();
    expect(log.ready()).toBe(true);
    log.append(record({ bytesUp: 2 }));
    chmodSync(folder, 0o755);
    log.reopen();
    expect(log.ready()).toBe(true);
    log.append(record({ bytesUp: 3 }));
    expect(requestsOf(`${file}.1`).map((line) => line['bytes_up'])).toEqual([1, 2]);
    expect(requestsOf(file).map((line) => line['bytes_up'])).toEqual([3]);
    expect(statSync(file).mode & 0o7777).toBe(0o600);
    const old = await verdictOn(`${file}.1`);
    expect(old).toMatchObject({ ok: true });
    expect(await verdictOn(file)).toMatchObject({ ok: true, continues: old.ok ? old.lastHash : '' });
    expect(said).toEqual([]);
  });

  test('reopening what is where it was changes nothing', async () => {
    const said: string[] = [];
    const log = openLog(file, said);
    log.append(record());
    log.reopen();
    log.append(record());
    expect(said).toEqual([]);
    expect(await verdictOn(file)).toMatchObject({ ok: true, records: 4 });
  });

  test('what cannot be opened anew is told, and can be tried again; the renamed file stays the log', async () => {
    const said: string[] = [];
    const log = openLog(file, said);
    renameSync(file, `${file}.1`);
    for (const place of [() => mkdirSync(file), () => writeFileSync(file, 'something else\n')]) {
      place();
      log.reopen();
      expect(said.pop()).toMatch(/^cannot open --audit-log .*; the file that is open stays the log$/);
      log.append(record());
      expect(log.ready()).toBe(true);
      rmSync(file, { recursive: true });
    }
    log.reopen();
    log.append(record());
    expect(said).toEqual([]);
    const old = await verdictOn(`${file}.1`);
    expect(old).toMatchObject({ ok: true, records: 4 });
    expect(await verdictOn(file)).toMatchObject({ ok: true, records: 2, continues: old.ok ? old.lastHash : '' });
  });

  test('a lost file that cannot be opened anew stays lost', async () => {
    const said: string[] = [];
    const log = openLog(file, said);
    unlinkSync(file);
    mkdirSync(file);
    expect(log.ready()).toBe(false);
    log.reopen();
    expect(said.pop()).toMatch(/^cannot open --audit-log .*directory$/);
    expect(log.ready()).toBe(false);
    rmSync(file, { recursive: true });
    log.reopen();
    expect(log.ready()).toBe(true);
    expect(said.pop()).toMatch(/is written again; nothing is missing/);
    expect(await verdictOn(file)).toMatchObject({ ok: true, records: 1 });
  });

  test('refused requests, which anybody can bring about, wait up to a number; what is lost beyond it is counted, in the log as well', async () => {
    const said: string[] = [];
    const log = openLog(file, said);
    unlinkSync(file);
    for (let i = 0; i < 1500; i++) log.append(record({ decision: 'refused', ended: 'refused' }));
    for (let i = 0; i < 1500; i++) log.append(record({ id: i.toString(16) })); // uses that were admitted before
    expect(log.missing).toBe(3000);
    log.reopen();
    const lines = linesOf(file);
    expect(lines.filter(({ decision }) => decision === 'refused')).toHaveLength(256);
    expect(lines.filter(({ decision }) => decision === 'allowed')).toHaveLength(1500);
    expect(lines.at(-1)).toMatchObject({ kind: 'gap', lost: 1244 });
    expect(said.at(-1)).toMatch(/is written again; 1244 requests are missing/);
    expect(log.missing).toBe(0);
    expect(await verdictOn(file)).toMatchObject({ faults: [{ line: lines.length, problem: 'tells that records of 1244 requests are lost' }] });
  });

  test('a file that was cut goes on after reopen, but not as if nothing had been there', async () => {
    const log = openLog(file);
    for (let i = 0; i < 3; i++) log.append(record({ id: i.toString(16) }));
    const lines = readFileSync(file, 'latin1').split('\n');
    writeFileSync(file, `${lines.slice(0, 3).join('\n')}\n`);
    log.append(record({ id: 'a' }));
    log.reopen();
    expect(linesOf(file).map(({ kind, id }) => id ?? kind)).toEqual(['begin', 'start', '0', 'begin', 'a']);
    expect(await verdictOn(file)).toMatchObject({ ok: false, line: 4 });
  });
});

test('a second writer on the same file stops, and the first one\'s chain is whole', async () => {
  const [said1, said2]: [string[], string[]] = [[], []];
  const first = openLog(file, said1);
  const second = new AuditLog(logOptions(file, said2));
  first.append(record());
  second.append(record());
  first.append(record());
  second.append(record());
  expect(first.ready()).toBe(true);
  expect(second.ready()).toBe(false);
  expect(said2).toHaveLength(1);
  expect(said2[0]).toMatch(/another program writes to it/);
  expect(await verdictOn(file)).toMatchObject({ ok: true, records: 4 });
});

describe('a full disk', () => {
  /** A file system of a size of its own. */
  function smallDisk(kilobytes: number): void {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k,mode=0755`, 'tmpfs', folder]);
    cleanUp(() => spawnSync('umount', ['-l', folder]));
  }

  /** Writes records, with `bytesUp` from 0 on, until the disk is full. Returns how many; without its ballast, it has room again. */
  function fillDisk(log: AuditLog): { count: number; ballast: string } {
    const ballast = join(folder, 'ballast');
    writeFileSync(ballast, Buffer.alloc(40 * 1024));
    let count = 0;
    while (log.missing === 0) log.append(record({ bytesUp: count++ }));
    return { count, ballast };
  }

  test('is told once; when there is room again, what waited is written, and the chain is whole', async (context) => {
    needs(context, 'root', 'command mount');
    smallDisk(64);
    const said: string[] = [];
    const log = openLog(file, said);
    const { count: written, ballast } = fillDisk(log);
    let count = written;
    for (let i = 0; i < 10; i++) log.append(record({ bytesUp: count++ }));
    expect(log.ready()).toBe(false);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/cannot be written: no space left on device/);
    expect(log.missing).toBe(11);
    unlinkSync(ballast);
    expect(log.ready()).toBe(true);
    expect(said).toHaveLength(2);
    log.append(record({ bytesUp: count++ }));
    expect(await verdictOn(file)).toMatchObject({ ok: true });
    const requests = readFileSync(file, 'latin1').split('\n').filter((line) => line.startsWith('{"kind":"request"') && line.endsWith('}'));
    expect(requests.map((line) => (JSON.parse(line) as { bytes_up: number }).bytes_up)).toEqual([...Array(count).keys()]);
  });

  test('may be full when the file is rotated: the new one is begun, and goes on with the chain, once there is room', async (context) => {
    needs(context, 'root', 'command mount');
    smallDisk(64);
    const said: string[] = [];
    const log = openLog(file, said);
    const { count, ballast } = fillDisk(log);
    renameSync(file, `${file}.1`);
    log.reopen();
    expect(log.ready()).toBe(false);
    expect(said.filter((message) => /no space left on device/.test(message))).toHaveLength(1);
    unlinkSync(ballast);
    expect(log.ready()).toBe(true);
    expect(log.missing).toBe(0);
    const [old, fresh] = [await verdictOn(`${file}.1`), await verdictOn(file)];
    expect(old.faults).toMatchObject([{ problem: expect.stringMatching(/^is torn: /) }]);
    expect(fresh).toMatchObject({ ok: true, continues: old.lastHash });
    expect(requestsOf(file).map((line) => line['bytes_up'])).toEqual([count - 1]);
  });

  test('before the first line is a reason not to start', async (context) => {
    needs(context, 'root', 'command mount');
    smallDisk(8);
    writeFileSync(join(folder, 'ballast'), Buffer.alloc(8 * 1024));
    expect(() => openLog(file)).toThrow(/cannot open --audit-log .*: no space left on device/);
  });

  test('may be full at any byte of the first lines of a new file, which carry on what runs', async (context) => {
    needs(context, 'command prlimit');
    const asAnError = (): void => {}; // like a full disk, not the end
    process.on('SIGXFSZ', asAnError);
    cleanUp(() => process.off('SIGXFSZ', asAnError));
    const log = openLog(file);
    for (const id of ['a', 'b', 'c']) log.admit({ id, uid: 1, model: 'gpt-5', serviceTier: undefined, reasoningMode: undefined, time: Date.now(), estimate: 5 });
    for (let limit = 1; limit < 900; limit += 23) {
      const old = `${file}.${limit}`;
      renameSync(file, old);
      limitFiles(limit);
      try {
        log.reopen();
        expect(log.ready(), String(limit)).toBe(false);
      } finally {
        limitFiles('unlimited');
      }
      expect(log.ready()).toBe(true);
      expect(linesOf(file).filter(({ kind }) => kind !== 'recovered').map(({ kind, id, open }) => id ?? [kind, open])).toEqual([['begin', 3], 'a', 'b', 'c']);
      expect(await verdictOn(file)).toMatchObject({ ok: true, continues: (await verdictOn(old)).lastHash });
      expect([...new AuditLog(logOptions(file)).ledger.open.keys()].sort()).toEqual(['a', 'b', 'c']);
    }
  });

  test('so it is with a limit on the size of files, at any byte', async (context) => {
    needs(context, 'command prlimit');
    const asAnError = (): void => {}; // like a full disk, not the end
    process.on('SIGXFSZ', asAnError);
    cleanUp(() => process.off('SIGXFSZ', asAnError));
    for (let limit = 2000; limit < 2700; limit += 25) {
      const said: string[] = [];
      const log = new AuditLog(logOptions(file, said));
      limitFiles(limit);
      try {
        for (let count = 0; count < 8; count++) log.append(record({ model: 'm'.repeat(count) }));
      } finally {
        limitFiles('unlimited');
      }
      expect(log.missing).toBeGreaterThan(0);
      expect(said).toEqual([expect.stringMatching(/cannot be written: file too large/)]);
      log.close();
      const next = new AuditLog(logOptions(file));
      next.append(record());
      next.close();
      expect(await verdictOn(file)).toMatchObject({ ok: true });
      unlinkSync(file);
    }
  });
});
