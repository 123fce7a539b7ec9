import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { audit, linesOf, verdictOn } from '../support/audit.ts';
import { Crowd, NotingUpstream } from '../support/audited-load.ts';
import { cleanUp } from '../support/cleanup.ts';
import { type Daemon, startDaemon } from '../support/daemon.ts';
import { policyArgs } from '../support/policy.ts';
import { Random, seed } from '../support/random.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

const kills = 200;
const clients = 8;
const diskMegabytes = 64;

/** How many ways there are to end a daemon. */
type Ending = 'SIGKILL' | 'SIGTERM' | 'full disk' | 'file size limit' | 'rotation';

const endings: readonly Ending[] = ['SIGKILL', 'SIGTERM', 'full disk', 'file size limit', 'rotation'];

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Fills the disk. Returns what makes room again. */
function fillDisk(folder: string): () => void {
  const ballast = join(folder, 'ballast');
  const fd = openSync(ballast, 'w');
  for (const size of [1024 * 1024, 4096, 1]) {
    try {
      for (;;) writeSync(fd, Buffer.alloc(size));
    } catch {
      // it is full, by that size
    }
  }
  closeSync(fd);
  return () => rmSync(ballast);
}

test(`killed ${kills} times under load: every use is in the log, and none is charged less than before, seed ${seed}`, async (context) => {
  needs(context, 'root', 'command mount', 'command prlimit');
  const random = new Random(seed);
  const folder = scratchFolder();
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${diskMegabytes}m,mode=0755`, 'tmpfs', folder]);
  cleanUp(() => spawnSync('umount', ['-l', folder]));
  const file = join(folder, 'audit.log');
  const upstream = new NotingUpstream(random);
  const url = await upstream.listen();
  const args = ['--upstream-url', url, '--audit-log', file, '--shutdown-timeout', '0.02', ...policyArgs({ models: ['m*'], limits: { tokens_total: 1_000_000_000 } })];
  const files: string[] = [file];
  /** Names of the requests that were admitted, in all files. */
  const admitted = new Set<string>();
  let [asked, used, extra, recovered] = [0, 0, 0, 0];

  const usedSaid = (daemon: Daemon): number => Number(/: (\d+) of \d+ tokens are used/.exec(daemon.stderr)?.[1]);

  for (let round = 0; round < kills; round++) {
    const daemon = await startDaemon({ args });
    const now = usedSaid(daemon);
    expect(now).toBeGreaterThanOrEqual(used);
    expect(await verdictOn(file)).toMatchObject({ faults: [], ledger: { open: new Map(), tokens: now } });
    const crowd = new Crowd(daemon.url, () => `m${asked++}`, random, clients);
    await sleep(random.whole(10, 200));
    const ending = random.pick(endings);
    let makeRoom = (): void => {};
    if (ending === 'full disk') makeRoom = fillDisk(folder);
    if (ending === 'file size limit') execFileSync('prlimit', ['--pid', String(daemon.pid), `--fsize=${statSync(file).size + random.whole(0, 2000)}:`]);
    if (ending === 'rotation') {
      renameSync(file, `${file}.${round}`);
      files.splice(-1, 0, `${file}.${round}`);
      daemon.signal('SIGUSR2');
      await expect.poll(() => existsSync(file) && statSync(file).size, { interval: 1 }).toBeGreaterThan(0);
    }
    if (ending !== 'SIGKILL') await sleep(random.whole(0, 30));
    daemon.signal(ending === 'SIGTERM' ? 'SIGTERM' : 'SIGKILL');
    await daemon.waitForExit();
    const { inFlight } = crowd;
    await crowd.stop();
    await upstream.drained();
    makeRoom();

    for (const { kind, model, ended, status, charged } of (ending === 'rotation' ? files.slice(-2) : [file]).flatMap(linesOf)) {
      if (kind === 'admitted') admitted.add(String(model));
      else if (ended === 'complete' && status === 200) expect(charged).toBe(upstream.seen.get(String(model)));
    }
    const missing = [...upstream.seen.keys()].filter((name) => !admitted.has(name));
    expect(missing, `after ${ending}, round ${round}`).toEqual([]);
    const { faults, ledger } = await verdictOn(file);
    const unseen = [...ledger.open.values()].filter(({ model }) => !upstream.seen.has(String(model))).length;
    expect(unseen).toBeLessThanOrEqual(inFlight);
    extra += unseen;
    expect(faults.filter(({ problem }) => !problem.startsWith('is torn: '))).toEqual([]);
    recovered += faults.length;
    if (ending === 'SIGTERM') expect(ledger.open.size).toBe(0);
    used = ledger.tokens + ledger.reserved;
  }

  const last = await startDaemon({ args });
  expect(usedSaid(last)).toBe(used);
  expect((await last.stop()).code).toBe(0);
  // What was charged covers what the upstream says that it cost, but for answers that nobody read.
  const summary = await audit('summary', ...files, '--json');
  expect(JSON.parse(summary.stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({ by: 'all', charged: used });
  const verified = await audit('verify', ...files.toReversed());
  expect(verified.said.filter((message) => !/ is torn: /.test(message))).toEqual([]);
  console.log(`${asked} requests, ${upstream.seen.size} uses seen, ${extra} admitted and not seen, ${recovered} torn ends, ${used} tokens, ${files.length} files`);
});
