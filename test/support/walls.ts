import { checkout } from './daemon-paths.ts';
import { nativeTool, runTool } from './native-tools.ts';

const sources = ['filter', 'starter_filter', 'serving_filter'].map((name) => `${checkout}/src/native/${name}.c`);

/** What the filters make of a call: `allowed`, `killed`, or the errno in words or as a number. */
export type Verdict = string;

/** In an argument: the process that makes the call. */
export const self = 4_294_967_295_000;

const errnos: Readonly<Record<string, string>> = { 1: 'EPERM', 38: 'ENOSYS', 92: 'ENOPROTOOPT', 93: 'EPROTONOSUPPORT', 94: 'ESOCKTNOSUPPORT', 95: 'EOPNOTSUPP', 97: 'EAFNOSUPPORT' };

/**
 * Asks the kernel, under the filters of src/native and without making a single call. See native/walls.c.
 *
 * @param stage what the starter forbids, or that and what is forbidden once the daemon serves
 * @param calls numbers and up to five arguments
 */
export async function verdicts(stage: 'start' | 'serve', options: ReadonlyArray<'opens-logs' | 'removes-file'>, calls: ReadonlyArray<readonly number[]>): Promise<Verdict[]> {
  const program = await nativeTool('walls', ['-std=c11', '-D_GNU_SOURCE', `-I${checkout}/src/native`, ...sources]);
  const { stdout, code, stderr } = await runTool(program, [stage, ...options], { input: calls.map((call) => `${call.join(' ')}\n`).join('') });
  if (code !== 0) throw new Error(`walls: ${code} ${stderr}`);
  return stdout.trim().split('\n').map((line) => errnos[line] ?? line);
}

