import { closeSync, copyFileSync, openSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launch, listeningOn, runToExit, type Daemon } from '../support/daemon.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';

// Stderr is a regular file: `>>FILE 2>&1`.

async function textOf(file: string, pattern: RegExp): Promise<string> {
  await expect.poll(() => readFileSync(file, 'utf8'), { timeout: 15_000 }).toMatch(pattern);
  return readFileSync(file, 'utf8');
}

async function startLogged(file: string): Promise<Daemon> {
  const stderr = openSync(file, 'a');
  const running = launch({ stderr, env: { TZ: 'Asia/Tokyo' } });
  closeSync(stderr);
  const [, port] = /listening on 127\.0\.0\.1:(\d+)/.exec(await textOf(file, /listening on .*\n/)) ?? [];
  return listeningOn(running, Number(port));
}

test('each line begins with its time, in UTC (RFC 3339)', async () => {
  const file = join(scratchFolder(), 'log');
  const before = new Date().toISOString();
  const daemon = await startLogged(file);
  await ask(daemon.port, { target: '/other' });
  await textOf(file, /refused .*\n/);
  expect((await daemon.stop()).code).toBe(0);
  const stderr = openSync(file, 'a');
  expect((await runToExit({ stderr, args: ['--policy', join(scratchFolder(), 'none')] })).code).toBe(1);
  closeSync(stderr);
  const after = new Date().toISOString();
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  expect(lines.length).toBeGreaterThanOrEqual(4);
  expect(lines.at(-1)).toContain('hint: ');
  for (const line of lines) {
    const [, time = ''] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (responses-api-proxy|hint)/.exec(line) ?? [];
    expect([before, time, after], line).toEqual([before, time, after].sort());
    expect(time).not.toBe('');
  }
});

test('in one that is copied and cut, as by copytruncate, it goes on at the beginning', async () => {
  const file = join(scratchFolder(), 'log');
  const daemon = await startLogged(file);
  copyFileSync(file, `${file}.1`);
  truncateSync(file);
  await ask(daemon.port, { target: '/other' });
  expect(await textOf(file, /refused .*\n/)).toMatch(/^(\S+Z responses-api-proxy: [^\n]*\n)+$/);
  expect(readFileSync(`${file}.1`, 'utf8')).toMatch(/listening on/);
});
