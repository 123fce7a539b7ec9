import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inject } from 'vitest';

const run = promisify(execFile);

/**
 * Compiles test/support/native/NAME.c with cc into this run's temporary folder, once per run, and resolves with the program's path.
 * Any user may execute it.
 */
export async function nativeTool(name: string, flags: readonly string[] = []): Promise<string> {
  const source = fileURLToPath(new URL(`native/${name}.c`, import.meta.url));
  const digest = createHash('sha256').update(await readFile(source)).update(flags.join(' ')).digest('hex').slice(0, 12);
  const program = join(inject('runFolder'), `${name}-${digest}`);
  if (!existsSync(program)) {
    // Another test file may be compiling it at this moment; rename is what makes that harmless.
    const own = `${program}.${randomUUID()}`;
    await run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', own, source, ...flags]);
    await rename(own, program);
  }
  return program;
}

export interface ToolResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; any exit code will do. `input` goes to its stdin. */
export function runTool(program: string, args: readonly string[] = [], options: { input?: string | Uint8Array; user?: { uid: number; gid: number } } = {}): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, [...args], { maxBuffer: 64 * 1024 * 1024, ...options.user }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? '');
  });
}
