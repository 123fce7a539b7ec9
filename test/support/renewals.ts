import type { Writable } from 'node:stream';
import { expect } from 'vitest';
import { randomKey, startDaemon, type Daemon, type DaemonOptions } from './daemon.ts';
import { runLoad, startLoadUpstream, type LoadUpstreamOptions, type Play } from './load.ts';
import { scanMemory } from './memory.ts';

/** A daemon with `--renewable-key` whose stdin stays open. */
export interface Renewable {
  readonly daemon: Daemon;
  readonly stdin: Writable;
  /** Writes bytes to its stdin; resolves when the kernel has them. */
  write(bytes: string | Uint8Array): Promise<void>;
  /** Writes a line with a key; resolves when the daemon has said that it renewed its key. */
  renew(key: string): Promise<void>;
}

/** Starts it with `options.key`, or a random one, as its first line. */
export async function startRenewable(options: Omit<DaemonOptions, 'stdin'> = {}): Promise<Renewable> {
  const key = options.key ?? randomKey();
  const daemon = await startDaemon({ ...options, key, args: ['--renewable-key', ...(options.args ?? [])], stdin: (pipe) => pipe.write(`${key}\n`) });
  const { stdin } = daemon.child;
  if (stdin === null) throw new Error('it has no stdin');
  const write = (bytes: string | Uint8Array): Promise<void> => new Promise((resolve, reject) => {
    stdin.write(bytes, (error) => (error === null || error === undefined ? resolve() : reject(error)));
  });
  const renew = async (next: string): Promise<void> => {
    const count = renewalsOf(daemon) + 1;
    await write(`${next}\n`);
    await renewed(daemon, count);
  };
  return { daemon, stdin, write, renew };
}

const renewalLine = 'responses-api-proxy: the key was renewed\n';

/** How often it has said so. */
export function renewalsOf({ stderr }: Daemon): number {
  return stderr.split(renewalLine).length - 1;
}

/** Resolves once it has been said `count` times. */
export async function renewed(daemon: Daemon, count: number): Promise<void> {
  await daemon.waitForStderrTimes(renewalLine, count);
}

export interface RenewalSiege {
  readonly upstream: LoadUpstreamOptions;
  readonly renewals: number;
  /** How often memory is searched for each of the last keys, while load and renewals go on. */
  readonly scans: number;
  readonly daemon?: DaemonOptions;
}

/** What can be told from failure: the client gets an answer from the upstream. */
const answered: readonly Play[] = ['json', 'stream', 'unauthorized', 'pipelined'];

const requestsPerRound = 40;

/**
 * Renews the key again and again while the daemon is under load. Each request must be answered and carry one whole key of
 * those that were in use, and root must find neither the old nor the new key in memory.
 */
export async function renewUnderLoad({ upstream: upstreamOptions, renewals, scans, daemon: options }: RenewalSiege): Promise<void> {
  const upstream = await startLoadUpstream(upstreamOptions);
  const { daemon, renew } = await startRenewable({ ...options, args: [...upstream.args, ...(options?.args ?? [])] });
  const keys = [daemon.key];
  let isOver = false;
  const failures: Array<Record<string, number>> = [];
  const load = (async () => {
    while (!isOver) failures.push(await runLoad(daemon.port, { requests: requestsPerRound, atOnce: 16, plays: answered }));
  })();
  const scanEvery = Math.ceil(renewals / scans);
  try {
    for (let count = 1; count <= renewals; count++) {
      const next = randomKey();
      keys.push(next);
      await renew(next);
      if (count % scanEvery !== 0) continue;
      for (const key of keys.slice(-2)) expect((await scanMemory(daemon.pid, key)).found).toEqual([]);
    }
  } finally {
    isOver = true;
    await load;
  }
  expect(failures.filter((one) => Object.keys(one).length > 0)).toEqual([]);
  const allowed = new Set(keys.map((key) => `authorization: Bearer ${key}`));
  expect([...upstream.credentials.keys()].filter((line) => !allowed.has(line))).toEqual([]);
  // After the last renewal, only the last key is sent.
  upstream.credentials.clear();
  expect(await runLoad(daemon.port, { requests: 10, plays: ['json'] })).toEqual({});
  expect([...upstream.credentials.keys()]).toEqual([`authorization: Bearer ${keys.at(-1)}`]);
  for (const key of [keys[0], keys.at(-2), keys.at(-1)] as string[]) {
    const scan = await scanMemory(daemon.pid, key);
    expect(scan.bytesRead).toBeGreaterThan(20_000_000);
    expect(scan.found).toEqual([]);
  }
}
