import { nativeTool, runTool } from './native-tools.ts';

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** Tries each way into process `pid` as `user`, and returns the outcomes; see native/intruder.c. */
export async function intrude(pid: number, user?: User): Promise<Map<string, 'open' | 'empty' | 'refused'>> {
  const program = await nativeTool('intruder', ['-std=c11', '-D_GNU_SOURCE']);
  const { stdout } = await runTool(program, [String(pid)], user === undefined ? {} : { user });
  return new Map(stdout.trim().split('\n').map((line) => line.split(' ') as [string, 'open' | 'empty' | 'refused']));
}

/** The ways that are open. */
export async function openWays(pid: number, user?: User): Promise<string[]> {
  return [...(await intrude(pid, user))].filter(([, result]) => result === 'open').map(([name]) => name);
}
