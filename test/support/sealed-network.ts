import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { cleanUp } from './cleanup.ts';
import type { Identity } from '../../scripts/certificates.ts';
import { scratchFolder } from './scratch.ts';
import { Changing } from './wait.ts';

const program = fileURLToPath(new URL('sealed-network-process.mjs', import.meta.url));

export interface SealedNetworkOptions extends Partial<Identity> {
  /** Commands for sh that make its addresses and routes; the loopback device is up. */
  readonly setUp: string;
  /** The names it knows, as in /etc/hosts. */
  readonly hosts: string;
  /** See sealed-network-process.mjs, as the next. */
  readonly recording?: readonly number[];
  readonly tls?: ReadonlyArray<{ readonly host: string; readonly port: number }>;
}

/** A network namespace with names, addresses and servers of its own. Needs root. */
export interface SealedNetwork {
  /** A `prefix` that runs a command in it. */
  readonly enter: readonly string[];
  /** What has reached its servers so far, in order. */
  readonly reached: readonly string[];
  /** Resolves once something has reached them after the first `count`. */
  next(count: number): Promise<string>;
  /** Resolves once `reached` has all that came before. */
  settled(): Promise<void>;
}

export async function sealedNetwork({ setUp, hosts, ...servers }: SealedNetworkOptions): Promise<SealedNetwork> {
  const file = join(scratchFolder(), 'hosts');
  writeFileSync(file, hosts);
  const commands = `set -e; ip link set lo up; mount --bind '${file}' /etc/hosts; ${setUp}\nexec "$@"`;
  const child = spawn('unshare', ['--net', '--mount', '--propagation', 'private', 'sh', '-c', commands, 'sh', process.execPath, program, JSON.stringify(servers)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  cleanUp(() => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    return ended;
  });
  const told: Array<{ readonly reached?: string }> = [];
  const changing = new Changing();
  createInterface({ input: child.stdout }).on('line', (line) => {
    told.push(JSON.parse(line) as { reached?: string });
    changing.changed();
  });
  const reached = (): string[] => told.flatMap((one) => one.reached ?? []);
  await changing.when(() => (told.length > 0 ? true : undefined), () => 'the servers of a network to listen');
  return {
    enter: ['nsenter', `--target=${child.pid}`, '--net', '--mount', '--'],
    get reached() {
      return reached();
    },
    settled: async () => {
      const before = told.filter((one) => one.reached === undefined).length;
      child.stdin.write('\n');
      await changing.when(() => (told.filter((one) => one.reached === undefined).length > before ? true : undefined), () => 'an answer from the servers of a network');
    },
    next: (count) => changing.when(() => reached()[count], () => 'a connection to the servers of a network'),
  };
}
