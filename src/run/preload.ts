/**
 * What has to be settled before anything else is loaded; it acts on import, and imports next to nothing.
 *
 * SIGUSR1 is taken from node, which would open a debugger port for every user of the machine (`--disable-sigusr1` does
 * not exist on Node 20). For a signal that is faster the launcher gives it an address that cannot be bound.
 *
 * Stderr is opened anew through /proc with O_NONBLOCK: write(2) to a pipe that nobody reads would block for ever. The
 * file description that others share stays as it is. For that, process.stderr has to go: node:assert, and on newer
 * versions node:util and node:http, touch it when they are loaded, and it would make the shared one non-blocking.
 * A socket (journald's) cannot be opened this way, nor can another user's terminal; there that is just what we want.
 */
import { constants, openSync, writeSync } from 'node:fs';
import { exitCodes } from './exit-codes.ts';

const oldestNode = [20, 19] as const;

process.on('SIGUSR1', () => {});

/** Where to write what the daemon has to say. Never blocks. */
export const stderrDescriptor = ownStderr();

function ownStderr(): number {
  try {
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY;
    const descriptor = openSync('/proc/self/fd/2', flags);
    Object.defineProperty(process, 'stderr', { value: { isTTY: false, write: () => true } });
    return descriptor;
  } catch {
    return process.stderr.fd;
  }
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

/** Whether node is new enough. Where it is not, that has been said, and the process ends by itself with nothing to do. */
export const isNodeSupported = major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1]);

if (!isNodeSupported) {
  writeSync(2, `responses-api-proxy: needs Node ${oldestNode.join('.')} or later, not ${process.versions.node}\nhint: put a newer node first on PATH\n`);
  process.exitCode = exitCodes.failed;
}
