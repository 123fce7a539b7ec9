import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { longestKey } from '../support/custody-load.ts';
import { randomKey, type Daemon } from '../support/daemon.ts';
import { runLoad, startLoadUpstream, type LoadOptions, type LoadUpstreamOptions } from '../support/load.ts';
import { nativeTool } from '../support/native-tools.ts';
import { renewed, startRenewable } from '../support/renewals.ts';
import { needs } from '../support/skip.ts';

// V8 saves the vector registers in ordinary memory, for one when it gives optimized code up. Reading memory shows that
// now and then; the registers show each time whether they held a piece of the key.

interface Looks {
  /** How often the registers were read: at the beginning and the end of each system call. */
  readonly looks: number;
  /** How often one of them held 16 bytes of a key. */
  readonly found: number;
}

/** Reads the registers of the daemon's main thread, which alone handles the key, until it ends. */
async function watchRegisters({ pid }: Daemon, keys: readonly string[]): Promise<{ looks: Promise<Looks> }> {
  const tool = spawn(await nativeTool('register-scan', ['-std=c11', '-D_GNU_SOURCE']), [String(pid)], { stdio: ['pipe', 'pipe', 'inherit'] });
  cleanUp(() => tool.kill('SIGKILL'));
  tool.stdin.end(keys.join('\n'));
  const lines = createInterface(tool.stdout);
  expect(await once(lines, 'line')).toEqual(['tracing']);
  return { looks: once(lines, 'line').then(([line]) => JSON.parse(line as string) as Looks) };
}

const upstreams: Record<string, LoadUpstreamOptions> = {
  'in the clear, to loopback': { cleartext: true },
  'over TLS 1.3': {},
  'over TLS 1.2': { secureContext: { maxVersion: 'TLSv1.2' } },
};

const load: LoadOptions = { requests: 20, plays: ['json', 'stream', 'pipelined'] };

test.for(Object.entries(upstreams))('no vector register holds 16 bytes of a key that is sent or renewed: %s', async ([, options], context) => {
  needs(context, 'root', 'command cc');
  const keys = [randomKey(), randomKey(), longestKey(), randomKey(), randomKey()] as const;
  const upstream = await startLoadUpstream(options);
  const { daemon, renew, write } = await startRenewable({ key: keys[0], args: upstream.args });
  const { looks } = await watchRegisters(daemon, keys);
  expect(await runLoad(daemon.port, load)).toEqual({});
  for (const next of keys.slice(1, 4)) {
    await renew(next);
    expect(await runLoad(daemon.port, load)).toEqual({});
  }
  // A line with the first piece of the next, which is moved to where that line was.
  await write(`${keys[3]}\n${keys[4].slice(0, 100)}`);
  await renewed(daemon, 4);
  await renew(keys[4].slice(100));
  await daemon.stop();
  const { looks: count, found } = await looks;
  expect(count).toBeGreaterThan(1_000);
  expect(found).toBe(0);
});
