/**
 * What has to be settled before anything slow is loaded; it acts on import, and is imported first.
 *
 * SIGUSR1 is taken from node, which would open a debugger port for every user of the machine (`--disable-sigusr1` does
 * not exist on Node 20). A signal that was faster still shows in `checkUnobserved`.
 */
import { writeSync } from 'node:fs';
import { exitCodes } from './failure.ts';

const oldestNode = [20, 19] as const;

process.on('SIGUSR1', () => {});

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1])) {
  writeSync(2, `responses-api-proxy: needs Node ${oldestNode.join('.')} or later, not ${process.versions.node}\nhint: put a newer node first on PATH\n`);
  process.exit(exitCodes.failed);
}
