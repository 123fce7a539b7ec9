import { chmodSync, chownSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { linesOf, requestsOf, verdictOn } from '../support/audit.ts';
import { nobody, startDaemon } from '../support/daemon.ts';
import { needs } from '../support/skip.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const rotations = 3;

test('that a folder which --run-as closes to the daemon keeps it from opening the file anew is told', async (context) => {
  needs(context, 'root');
  const folder = join(scratchFolder(), 'closed');
  mkdirSync(folder, { mode: 0o700 });
  const file = join(folder, 'audit.log');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--audit-log', file, '--run-as', 'nobody'] });
  for (let count = 0; count < 2; count++) expect((await ask(daemon.port)).status).toBe(200);
  daemon.signal('SIGUSR2');
  await expect.poll(() => daemon.stderr).toMatch(/cannot open --audit-log .*: permission denied; the file that is open stays the log/);
  expect((await ask(daemon.port)).status).toBe(200);
  expect(requestsOf(file)).toHaveLength(3);
});

test('renamed under load, again and again, with another user: each request is recorded once, in one chain over all files', async (context) => {
  needs(context, 'root');
  const folder = scratchFolder();
  chownSync(folder, nobody.uid, nobody.gid);
  chmodSync(folder, 0o700);
  const file = join(folder, 'audit.log');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--audit-log', file, '--run-as', 'nobody'] });

  const ids: string[] = [];
  let isOver = false;
  const clients = Promise.all(Array.from({ length: 8 }, async () => {
    while (!isOver) {
      const response = await fetch(daemon.url, { method: 'POST', body: '{}' });
      await response.text();
      expect(response.status).toBe(200);
      ids.push(response.headers.get('x-audit-id') ?? '');
    }
  }));
  const files = [file];
  for (let rotation = 1; rotation <= rotations; rotation++) {
    const before = linesOf(file).length;
    await expect.poll(() => linesOf(file).length).toBeGreaterThan(before + 20);
    const old = `${file}.${rotation}`;
    renameSync(file, old);
    daemon.signal('SIGUSR2');
    await expect.poll(() => statSync(file, { throwIfNoEntry: false })?.size ?? 0).toBeGreaterThan(0);
    files.splice(-1, 0, old);
  }
  isOver = true;
  await clients;
  expect((await daemon.stop()).code).toBe(0);

  let last: string | undefined;
  for (const one of files) {
    expect(statSync(one)).toMatchObject({ uid: nobody.uid, mode: 0o100600 });
    const verdict = await verdictOn(one);
    expect(verdict).toMatchObject({ ok: true, continues: last });
    last = verdict.ok ? verdict.lastHash : undefined;
  }
  const recorded = files.flatMap((one) => linesOf(one)).flatMap(({ kind, id }) => (kind === 'request' ? [String(id)] : []));
  expect(recorded).toHaveLength(ids.length);
  expect(new Set(recorded)).toEqual(new Set(ids));
  expect(daemon.stderr).not.toMatch(/are missing|not recorded/);
});
