import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { caFile } from './certificates.ts';
import { cleanUp } from './cleanup.ts';
import { credentialHeaders, type CredentialHeader } from './credentials.ts';
import { startRecordingTunnel } from './recording-tunnel.ts';
import { randomKey, startDaemon, type Daemon, type DaemonOptions } from './daemon.ts';
import { runLoad, startLoadUpstream, type LoadOptions, type LoadUpstreamOptions } from './load.ts';
import { scanMemory, type Scan } from './memory.ts';
import { policyArgs } from './policy.ts';
import { scratchFolder } from './scratch.ts';

/** How a daemon is put under load while its memory is read. */
export interface Siege {
  readonly upstream?: LoadUpstreamOptions;
  readonly load: LoadOptions;
  readonly daemon?: DaemonOptions;
  readonly throughProxy?: boolean;
  /** Default: Authorization. */
  readonly credential?: CredentialHeader;
  /** With an audit log, which is required, and with this policy. */
  readonly policy?: object;
  /** Scans while the load runs. Default: 2. */
  readonly scans?: number;
}

export interface Outcome {
  readonly daemon: Daemon;
  /** All scans: those under load, then one after it. */
  readonly scans: readonly Scan[];
}

/** A key as long as a key may be, in which no 16 bytes occur twice. */
export function longestKey(): string {
  return Array.from({ length: 60 }, () => randomKey()).join('').slice(0, 8 * 1024);
}

/** Puts a daemon under load, reads its memory meanwhile and afterwards, and checks that every exchange went as it should. */
export async function besiege(siege: Siege): Promise<Outcome> {
  const upstream = await startLoadUpstream(siege.upstream);
  const proxy = siege.throughProxy === true ? await startRecordingTunnel() : undefined;
  const credential = siege.credential ?? credentialHeaders['Authorization: Bearer'];
  const daemon = await startDaemon({
    ...siege.daemon,
    args: [
      ...upstream.args,
      ...credential.args,
      // A machine that is busy with other tests may take longer than the default.
      '--connect-timeout', '0',
      ...(siege.policy === undefined ? [] : accountsArgs(siege.policy)),
      ...(proxy === undefined ? [] : ['--upstream-proxy', proxy.url]),
      ...(siege.daemon?.args ?? []),
    ],
  });
  const scans = await scansUnderLoad(daemon.pid, daemon.port, daemon.key, siege.load, siege.scans ?? 2);
  // Each request had the key, whole and once; nothing else did.
  expect([...upstream.credentials.keys()]).toEqual([`${credential.name.toLowerCase()}: ${credential.valueWith(daemon.key)}`]);
  if (proxy !== undefined) expect(proxy.tunnels).toBe(upstream.connections);
  return { daemon, scans };
}

function accountsArgs(policy: object): string[] {
  return [...policyArgs(policy), '--audit-log', join(scratchFolder(), 'audit.log')];
}

/** Reads a process's memory `count` times while the load on `port` runs, and once after it. */
export async function scansUnderLoad(pid: number, port: number, key: string, load: LoadOptions, count: number): Promise<Scan[]> {
  const scans: Scan[] = [];
  const warmUp = Math.ceil(load.requests / 5);
  // Soft: the memory is read even if an exchange failed.
  expect.soft(await runLoad(port, { ...load, requests: warmUp })).toEqual({});
  let isOver = false;
  const running = runLoad(port, { ...load, requests: load.requests - warmUp }).finally(() => {
    isOver = true;
  });
  for (let done = 0; done < count && !isOver; done++) scans.push(await scanMemory(pid, key));
  expect.soft(await running).toEqual({});
  scans.push(await scanMemory(pid, key));
  return scans;
}

/** Starts the proxy that keeps its key in a string; see header-string-proxy.mjs. */
export async function startHeaderStringProxy(upstreamPort: number, key: string): Promise<{ pid: number; port: number }> {
  const program = fileURLToPath(new URL('header-string-proxy.mjs', import.meta.url));
  const child = spawn(process.execPath, [program, `https://localhost:${upstreamPort}/v1/responses`, caFile()], { stdio: ['pipe', 'pipe', 'inherit'] });
  cleanUp(() => child.kill('SIGKILL'));
  child.stdin.end(key);
  const [line] = (await child.stdout.setEncoding('latin1').iterator({ destroyOnReturn: false }).next()).value.split('\n') as string[];
  if (child.pid === undefined) throw new Error('the proxy did not start');
  return { pid: child.pid, port: Number(line) };
}
