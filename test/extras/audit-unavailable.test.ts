import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { linesOf, requestsOf, verdictOn } from '../support/audit.ts';
import { shell } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { startBoth } from '../support/proxied.ts';
import { ask, connect } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer } from '../support/upstream.ts';

let file: string;

beforeEach(() => {
  file = join(scratchFolder(), 'log', 'audit.log');
  mkdirSync(dirname(file));
});

test.each<readonly [what: string, lose: () => void, mend: () => void]>([
  ['is removed', () => rmSync(file), () => {}],
  ['is emptied', () => truncateSync(file), () => {}],
  ['is written to by somebody else', () => appendFileSync(file, 'x'), () => {}],
  ['is removed, with a folder in its place', () => { rmSync(file); mkdirSync(file); }, () => rmSync(file, { recursive: true })],
])('a log that %s stops the use of the key, until that is mended and told', async (_what, lose, mend) => {
  const both = await startBoth({ args: ['--audit-log', file] });
  const { daemon, upstream } = both;
  upstream.answerWith(answer(200, '{}'));
  expect((await ask(daemon.port)).status).toBe(200);
  lose();
  const refused = await ask(daemon.port);
  expect(refused.status).toBe(503);
  expect(envelopeOf(refused)).toMatchObject({ code: 'audit_unavailable', type: 'server_error' });
  mend();
  expect((await ask(daemon.port)).status).toBe(503);
  expect(upstream.requests).toHaveLength(1);
  daemon.signal('SIGUSR2');
  await daemon.waitForStderr(/is written again; nothing is missing/);
  expect((await ask(daemon.port)).status).toBe(200);
  expect(requestsOf(file).map(({ status }) => status).slice(-3)).toEqual([503, 503, 200]);
  expect(await verdictOn(file)).toMatchObject({ ok: true });
});

test('a log that is lost while a request waits for its body stops that one too', async () => {
  const both = await startBoth({ args: ['--audit-log', file] });
  const client = await connect(both.daemon.port);
  await client.send(both.uploadHead('Expect: 100-continue\r\nContent-Length: 2'));
  await client.waitFor(/^HTTP\/1\.1 100 /); // its head was judged
  rmSync(file);
  await client.send('{}');
  const refused = await client.response();
  expect(refused.status).toBe(503);
  expect(envelopeOf(refused).code).toBe('audit_unavailable');
  expect(both.upstream.requests).toHaveLength(0);
});

test('a log that cannot grow stops the use of the key; what was admitted before is not lost', async (context) => {
  needs(context, 'root', 'command prlimit');
  const most = 20 * 512;
  const both = await startBoth({ args: ['--audit-log', file], daemon: { prefix: shell('ulimit -S -f 20') } });
  const { daemon, upstream } = both;
  upstream.answerWith(answer(200, '{}'));
  let served = 0;
  while ((await ask(daemon.port)).status === 200) served++;
  for (let count = 0; count < 3; count++) expect((await ask(daemon.port)).status).toBe(503);
  expect(upstream.requests).toHaveLength(served);
  expect(daemon.stderr.match(/cannot be written: file too large/g)).toHaveLength(1);
  execFileSync('prlimit', ['--pid', String(daemon.pid), `--fsize=${10 * most}:`]);
  expect((await ask(daemon.port)).status).toBe(200);
  expect(daemon.stderr).toContain('is written again; nothing is missing');
  expect(requestsOf(file).map(({ status }) => status)).toEqual([...Array<number>(served).fill(200), 503, 503, 503, 503, 200]);
  expect(await verdictOn(file)).toMatchObject({ ok: true });
});

test.each<readonly [what: string, replace: () => void]>([
  ['nothing', () => {}],
  ['a link', () => { writeFileSync(`${file}.2`, ''); symlinkSync(`${file}.2`, file); }],
  ['a pipe', () => execFileSync('mkfifo', [file])],
  ['a folder', () => mkdirSync(file)],
])('a log that is moved, with %s in its place, stays the log; opened anew once that can be, it goes on', async (what, replace) => {
  const both = await startBoth({ args: ['--audit-log', file] });
  const { daemon, upstream } = both;
  upstream.answerWith(answer(200, '{}'));
  renameSync(file, `${file}.1`);
  replace();
  expect((await ask(daemon.port)).status).toBe(200);
  if (what !== 'nothing') {
    daemon.signal('SIGUSR2');
    await daemon.waitForStderr(/cannot open --audit-log .*; the file that is open stays the log/);
    expect((await ask(daemon.port)).status).toBe(200);
    rmSync(file, { recursive: true });
  }
  const recorded = linesOf(`${file}.1`).length;
  daemon.signal('SIGUSR2');
  await expect.poll(() => existsSync(file) && linesOf(file).length).toBe(1);
  expect((await ask(daemon.port)).status).toBe(200);
  expect([linesOf(`${file}.1`).length, linesOf(file).length]).toEqual([recorded, 3]);
  const old = await verdictOn(`${file}.1`);
  expect(await verdictOn(file)).toMatchObject({ ok: true, continues: old.ok ? old.lastHash : '' });
});

test('what does not use the key is answered all the same; at the end it is told how much is not recorded', async () => {
  const both = await startBoth({ args: ['--audit-log', file, '--http-health'] });
  unlinkSync(file);
  const refused = await ask(both.daemon.port, { target: '/' });
  const health = await ask(both.daemon.port, { method: 'GET', target: '/health' });
  expect([refused.status, health.status]).toEqual([403, 200]);
  expect((await both.daemon.stop()).stderr).toContain('2 requests are not recorded');
});
