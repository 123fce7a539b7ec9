import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'vitest';
import { cleanUp } from './cleanup.ts';
import { scratchFolder } from './scratch.ts';
import { needs, skipUnless } from './skip.ts';

/**
 * A program for Node that relays 127.0.0.1:PORT of the namespace it is in to SOCKET, then runs a command: PORT SOCKET
 * COMMAND... Returns the path of a copy that every user can read.
 */
export function relayInto(): string {
  const file = join(scratchFolder(), 'relay-into-namespace.mjs');
  copyFileSync(new URL('relay-into-namespace.mjs', import.meta.url), file);
  chmodSync(file, 0o644);
  return file;
}

/** Skips the test, with the reason, where no network namespaces can be made. */
export function needsNetworkNamespaces(context: TestContext): void {
  needs(context, 'root', 'command unshare', 'command nsenter', 'command ip');
  skipUnless(context, canMakeNetworkNamespaces(), 'needs the right to make network namespaces');
}

export function canMakeNetworkNamespaces(): boolean {
  return spawnSync('unshare', ['--net', 'ip', 'link', 'set', 'lo', 'up']).status === 0;
}

/** A port of this namespace's loopback as a socket in the file system, which is the same in all of them. Returns its path. */
export async function asSocket(port: number): Promise<string> {
  const path = join(scratchFolder(), 'relay.sock');
  const sockets = new Set<net.Socket>();
  const server = net.createServer((client) => {
    const onward = net.connect(port, '127.0.0.1');
    for (const [one, other] of [[client, onward], [onward, client]] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  chmodSync(path, 0o666);
  cleanUp(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return path;
}
