import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { noHash, seal } from '../../src/extras/audit/audit-chain.ts';
import { recordText } from '../../src/extras/audit/audit-record.ts';
import { endpoint, record } from '../support/audit.ts';
import { checkout } from '../support/daemon-paths.ts';
import { scratchFolder } from '../support/scratch.ts';

const count = 1_000_000;
const linesPerWrite = 1000;

/** Of the whole process; node alone takes 45 MB. */
const maxMegabytes = 150;
/** A quiet machine takes 3 s. */
const maxSeconds = 30;

/** Runs the command and says what it took. */
const runner = `
import { auditCommand } from '${checkout}/dist/extras/audit/audit-command.js';
const code = await auditCommand(process.argv.slice(1), { stdout: process.stdout, say() {} });
const peak = /^VmHWM:\\s+(\\d+) kB/m.exec((await import('node:fs')).readFileSync('/proc/self/status', 'latin1'))[1];
process.stderr.write(JSON.stringify({ code, megabytes: peak / 1024 }));`;

let file: string;

beforeAll(() => {
  file = join(scratchFolder(), 'audit.log');
  const fd = openSync(file, 'ax', 0o600);
  let { line, hash } = seal(JSON.stringify({ kind: 'begin', time: new Date(0).toISOString(), open: 0 }), noHash);
  let batch = line;
  const models = ['gpt-5', 'gpt-5-mini', 'gpt-5-codex'];
  for (let index = 0; index < count; index++) {
    const text = recordText(record({ time: Date.UTC(2026, 0, 1) + index * 1000, model: models[index % 3], uid: 1000 + (index % 7) }), endpoint);
    ({ line, hash } = seal(text, hash));
    batch += line;
    if (index % linesPerWrite !== linesPerWrite - 1) continue;
    writeSync(fd, batch, null, 'latin1');
    batch = '';
  }
  closeSync(fd);
}, 120_000);

describe('a log of a million lines, in seconds and in bounded memory', () => {
  test.each([
    ['summary', ['summary'], /^all +1000000 +0 +0 +1200000000 /m],
    ['verify', ['verify'], /: 1000001 records, each as it was written/],
    ['list of all', ['list', '--json', '--limit', String(count + 1)], /"time":"2026-01-01T00:00:00.000Z"/],
    ['list of the newest', ['list'], /^2026-01-12T13:46:39.000Z /m],
  ] as const)('%s', (_, [command, ...flags], expected) => {
    const before = performance.now();
    const output = `${file}.${command}`;
    const stdout = openSync(output, 'w');
    const { stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', runner, '--', command, file, ...flags], { encoding: 'latin1', stdio: ['ignore', stdout, 'pipe'] });
    closeSync(stdout);
    const seconds = (performance.now() - before) / 1000;
    expect(spawnSync('tail', ['-c', '5000', output], { encoding: 'latin1' }).stdout).toMatch(expected);
    const { code, megabytes } = JSON.parse(stderr) as { code: number; megabytes: number };
    console.log(`${command}: ${seconds.toFixed(1)} s, ${megabytes.toFixed(0)} MB`);
    expect(code).toBe(0);
    expect(megabytes).toBeLessThan(maxMegabytes);
    expect(seconds).toBeLessThan(command === 'list' && flags.length === 0 ? 3 : maxSeconds);
  });
});
