import { execFile } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { denying, noLocking, noMemfdSecret } from '../support/deny.ts';
import { nativeTool } from '../support/native-tools.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

const addon = `${checkout}/dist/native/${process.arch}.node`;
const program = fileURLToPath(new URL('../support/native/touch-guard.cjs', import.meta.url));
const headers = resolve(dirname(process.execPath), '../include/node');

const pageBytes = 4096;
/** What the daemon allocates, and sizes around a page. */
const sizes = [1, pageBytes - 1, pageBytes, pageBytes + 1, 32 * 1024];

/** A child that allocates `bytes` and writes to the byte at `offset`. */
async function touch(bytes: number, offset: number, prefix: readonly string[], locking: string): Promise<{ signal: string | undefined; stdout: string }> {
  const touchAddon = join(scratchFolder(), 'touch.node');
  copyFileSync(await nativeTool('touch', ['-std=c11', '-D_GNU_SOURCE', '-shared', '-fPIC', `-I${headers}`]), touchAddon);
  const [command = '', ...args] = [...prefix, process.execPath, program, addon, touchAddon, String(bytes), String(offset), locking];
  return new Promise((done) => {
    execFile(command, args, { env: {} }, (error, stdout) => done({ signal: error?.signal ?? undefined, stdout }));
  });
}

const kinds: Record<string, readonly [rules: readonly string[], locking: 'required' | 'waived']> = {
  memfd_secret: [[], 'required'],
  mlock: [[noMemfdSecret], 'required'],
  unlocked: [noLocking, 'waived'],
};

describe.for(Object.entries(kinds))('memory of the kind %s', ([kind, [rules, locking]]) => {
  const prefix = async (): Promise<readonly string[]> => (rules.length === 0 ? [] : denying(...rules));

  test('kills who writes behind its end', async (context) => {
    needs(context, 'command cc');
    for (const bytes of sizes) expect(await touch(bytes, bytes, await prefix(), locking)).toEqual({ signal: 'SIGSEGV', stdout: `${kind}\n` });
  });

  test('kills who writes before its pages', async (context) => {
    needs(context, 'command cc');
    for (const bytes of sizes) {
      // It ends at the end of its last page, so up to a page may lie before it.
      const firstPage = Math.ceil(bytes / pageBytes) * pageBytes - bytes;
      expect(await touch(bytes, -firstPage - 1, await prefix(), locking)).toEqual({ signal: 'SIGSEGV', stdout: `${kind}\n` });
    }
  });

  test('lets its own bytes be written', async (context) => {
    needs(context, 'command cc');
    for (const bytes of sizes) {
      for (const offset of [0, bytes - 1]) expect(await touch(bytes, offset, await prefix(), locking)).toEqual({ signal: undefined, stdout: `${kind}\nsurvived\n` });
    }
  });
});
