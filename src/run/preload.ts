/**
 * What has to happen before anything else is loaded. It acts on import, and imports next to nothing.
 *
 * Signals: node would answer SIGUSR1 with a debugger port that every user of the machine can reach (Node 20 has no
 * `--disable-sigusr1`). For a signal that arrives even earlier, the launcher sets an address that cannot be bound. SIGUSR2
 * asks for the audit log to be opened again, and must not end a daemon that has none. (Node ignores SIGXFSZ by itself.)
 *
 * Stderr: write(2) to a pipe that is full and never read would block forever, so a pipe or a terminal is opened anew
 * through /proc with O_NONBLOCK. The open file that is shared with other processes stays as it is. A regular file never
 * blocks, and its offset is shared with other writers, so that one is used as it is. A socket (journald's) and another
 * user's terminal cannot be opened anew. There a touch of `process.stderr` makes the shared one non-blocking. Elsewhere
 * that would be wrong, and node:assert, and in newer versions node:util and node:http, touch it when they are loaded. So it
 * is replaced by one that drops what is written: a console.error could say anything.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { loadNative } from '../native/native.ts';

const oldestNode = [20, 19] as const;

try {
  // Until then, a process of the same account can open /proc/PID/mem; and to load the rest takes longest of all in a start.
  loadNative().harden();
} catch {
  // `daemon.ts` does it again, and says what is wrong.
}

process.on('SIGUSR1', () => {});
process.on('SIGUSR2', () => {});

/** The descriptor for messages. Writing to it never blocks. */
export const stderrDescriptor = nonBlockingStderr();

function nonBlockingStderr(): number {
  try {
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY;
    return fstatSync(2).isFile() ? 2 : openSync('/proc/self/fd/2', flags);
  } catch {
    return process.stderr.fd;
  } finally {
    Object.defineProperty(process, 'stderr', { value: new Writable({ write: (_text, _encoding, done) => done() }) });
  }
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

/** Whether node is new enough. Where it is not, that has been said, and the process ends by itself with nothing to do. */
export const isNodeSupported = major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1]);

if (!isNodeSupported) {
  writeSync(2, `responses-api-proxy: needs Node ${oldestNode.join('.')} or later, not ${process.versions.node}\nhint: put a newer node first on PATH\n`);
  process.exitCode = 1;
}
