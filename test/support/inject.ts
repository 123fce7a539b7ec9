import type { TestContext } from 'vitest';
import { nativeTool, runTool } from './native-tools.ts';
import { needs, skipUnless } from './skip.ts';

/** A system call: its number on x86-64 (`i386:N` for int 0x80), and its arguments. Texts and bytes are put into the process's memory. */
export type Call = readonly [number: number | string, ...args: ReadonlyArray<number | string | Uint8Array>];

/** What a call returned, negative for an errno, or the number of the signal that ended the process. */
export type Outcome = number | { readonly killed: number };

/** SIGSYS: what seccomp kills with. */
export const bySeccomp: Outcome = { killed: 31 };

export const errno = { EPERM: -1, EBADF: -9, EACCES: -13, EFAULT: -14, ENOSYS: -38, ENOPROTOOPT: -92, EPROTONOSUPPORT: -93, ESOCKTNOSUPPORT: -94, EOPNOTSUPP: -95, EAFNOSUPPORT: -97, ECONNREFUSED: -111 } as const;

/** What tests that inject need: root, to trace a process that forbids it, and the numbers of x86-64. */
export function needsInjection(context: TestContext): void {
  needs(context, 'root', 'command cc');
  skipUnless(context, process.arch === 'x64', 'the numbers of system calls are those of x64');
}

/** Makes a thread of another process, by default its main one, do these calls one after the other, until one of them ends it. */
export async function inject(thread: number, calls: readonly Call[]): Promise<Outcome[]> {
  const program = await nativeTool('inject', ['-std=c11', '-D_GNU_SOURCE']);
  const input = calls.map(([number, ...args]) => [number, ...args.map(spell)].join('\t')).join('\n');
  const { stdout, stderr, code } = await runTool(program, [String(thread)], { input: `${input}\n` });
  if (code !== 0) throw new Error(stderr);
  return stdout.trim().split('\n').map((line) => (line.startsWith('killed ') ? { killed: Number(line.slice('killed '.length)) } : Number(line)));
}

function spell(argument: number | string | Uint8Array): string {
  if (typeof argument === 'number') return String(argument);
  return `@${Buffer.from(typeof argument === 'string' ? `${argument}\0` : argument).toString('hex')}`;
}
