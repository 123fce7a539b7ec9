import type { Socket } from 'node:net';
import type { Native } from '../native/native.ts';

/** Makes the question whether a client has closed its connection, for when nothing is read from it; undefined without the addon. */
export function hangUpLookup(native: Native | undefined): ((socket: Socket) => boolean) | undefined {
  if (native === undefined) return undefined;
  return (socket) => {
    // Node has no public name for a socket's descriptor; this one is the one that its own tests and debuggers use.
    const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
    return handle === null || (handle.fd >= 0 && native.hasHungUp(handle.fd));
  };
}
