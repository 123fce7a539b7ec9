import type { TestContext } from 'vitest';
import { launcher } from './daemon-paths.ts';
import { runToExit } from './daemon.ts';
import { nativeTool } from './native-tools.ts';
import { needs } from './skip.ts';

/** What `--help` writes to a terminal of so many columns. */
export async function helpAt(columns: number, context: TestContext): Promise<string> {
  needs(context, 'command cc');
  return (await runToExit({ launcher: await nativeTool('terminal'), args: [String(columns), launcher, '--help'], stdin: 'ignore' })).stdout;
}
