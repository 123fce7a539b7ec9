import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { audit, linesOf, requestsOf, verdictOn } from '../support/audit.ts';
import { launch, runToExit } from '../support/daemon.ts';
import { chunk } from '../support/http-bytes.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, asking, startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, streamHead } from '../support/upstream.ts';

let file: string;
let both: Proxied;

const args = (): readonly string[] => ['--audit-log', file, ...policyArgs({ limits: { tokens_total: 100_000 } })];

beforeEach(async () => {
  file = join(scratchFolder(), 'audit.log');
  both = await startBoth({ args: args() });
});

/** As logrotate does it; resolves once the daemon writes to the new file. */
async function rotate(to: string): Promise<void> {
  renameSync(file, to);
  both.daemon.signal('SIGUSR2');
  await expect.poll(() => { try { return linesOf(file).length; } catch { return 0; } }).toBeGreaterThan(0);
}

const kinds = (of: string): unknown[] => linesOf(of).map(({ kind }) => kind);

test('a stream over two rotations is carried on in each file, ends once, and each file is whole by itself', async () => {
  const long = await asking(both, { body: 'x'.repeat(1000) });
  const killed = await asking(both, { body: 'x'.repeat(300) });
  for (const { request } of [long, killed]) await request.reply(streamHead());
  await rotate(`${file}.2`);
  await rotate(`${file}.1`);
  await long.request.reply(`${chunk('data: {"usage":{"total_tokens":77}}\n\n').toString()}0\r\n\r\n`);
  await expect.poll(() => requestsOf(file).length).toBe(1);
  expect([kinds(`${file}.2`), kinds(`${file}.1`), kinds(file)]).toEqual([
    ['begin', 'start', 'admitted', 'admitted'],
    ['begin', 'admitted', 'admitted'],
    ['begin', 'admitted', 'admitted', 'request'],
  ]);
  expect(linesOf(file).slice(0, 2)).toMatchObject([{ tokens: 0, open: 2 }, { carried: true, time: linesOf(`${file}.2`)[2]?.['time'], estimate: 1000 }]);
  both.daemon.signal('SIGKILL');
  await both.daemon.waitForExit();
  const next = await startBoth({ args: args() });
  await next.daemon.waitForStderr(/: 377 of 100000 tokens are used/);
  expect(requestsOf(file)).toMatchObject([{ ended: 'complete', charged: 77 }, { ended: 'unknown', charged: 300 }]);
  for (const one of [`${file}.2`, `${file}.1`, file]) expect(await verdictOn(one)).toMatchObject({ ok: true });
  expect(await audit('verify', file, `${file}.2`, `${file}.1`)).toMatchObject({ code: 0, said: [] });
});

test('a file that was cut while the daemon ran gives nothing back, nor does another log in its place', async () => {
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":100}}'));
  expect((await ask(both.daemon.port)).status).toBe(200);
  both.startOver();
  await asking(both, { body: 'x'.repeat(7) });
  truncateSync(file, readFileSync(file).indexOf('\n') + 1);
  expect((await ask(both.daemon.port)).status).toBe(503);
  both.daemon.signal('SIGUSR2');
  await both.daemon.waitForStderr(/is written again; nothing is missing/);
  copyFileSync(file, `${file}.copy`);
  rmSync(file);
  renameSync(`${file}.copy`, file);
  both.daemon.signal('SIGUSR2');
  await both.daemon.waitForStderr(/cannot open --audit-log .*: it is not empty: move it away, or start the daemon anew/);
  both.daemon.signal('SIGKILL');
  await both.daemon.waitForExit();
  const next = await startBoth({ args: args() });
  await next.daemon.waitForStderr(/: 107 of 100000 tokens are used/);
  expect(await verdictOn(file)).toMatchObject({ faults: [{ line: 2, problem: expect.stringMatching(/^does not follow the record before it/) }] });
});

test('a file that is renamed while the daemon waits for its key is gone on with', async () => {
  await asking(both, { body: 'x'.repeat(7) });
  both.daemon.signal('SIGKILL');
  await both.daemon.waitForExit();
  const waiting = launch({ args: [...both.upstream.args, ...args()], stdin: (stdin) => stdin.write('sk-the-beginning-') });
  const { ino } = statSync(file);
  await expect.poll(() => readFileSync('/proc/locks', 'latin1')).toMatch(new RegExp(`FLOCK .* ${waiting.pid} .*:${ino} `));
  renameSync(file, `${file}.1`);
  waiting.signal('SIGUSR2');
  waiting.child.stdin?.end('and-the-end\n');
  await waiting.waitForStderr(/: 7 of 100000 tokens are used/);
  await expect.poll(() => existsSync(file) && linesOf(file).length).toBeGreaterThan(0);
  expect(await audit('verify', file, `${file}.1`)).toMatchObject({ code: 0, said: [] });
});

test('what the files before were charged is not lost with a beginning that is not whole', async () => {
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":100}}'));
  expect((await ask(both.daemon.port)).status).toBe(200);
  both.startOver();
  await asking(both, { body: 'x'.repeat(7) });
  await rotate(`${file}.1`);
  both.daemon.signal('SIGKILL');
  await both.daemon.waitForExit();
  const begin = readFileSync(file);
  for (const end of [50, begin.indexOf('\n') + 1, begin.length - 10]) {
    writeFileSync(file, begin.subarray(0, end));
    expect(await runToExit({ args: [...both.upstream.args, ...args()] })).toMatchObject({ code: 1, stderr: expect.stringMatching(/cannot open --audit-log .*: its first lines are not whole: .*Put the one before it back/) });
  }
  renameSync(`${file}.1`, file);
  const next = await startBoth({ args: args() });
  await next.daemon.waitForStderr(/: 107 of 100000 tokens are used/);
});
