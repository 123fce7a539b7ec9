import type { Socket } from 'node:net';
import type { Native } from '../native/native.ts';

/** What the kernel knows of a connection and node does not tell. */
export interface SocketFacts {
  /** Whether the other end has closed it, also while nothing is read from it. */
  hasHungUp(socket: Socket): boolean;
  /** Bytes that were written and that the other end has not acknowledged. */
  unacknowledgedBytes(socket: Socket): number;
}

/** Undefined without the addon: then only reading tells whether the other end has hung up. */
export function socketFacts(native: Native | undefined): SocketFacts | undefined {
  if (native === undefined) return undefined;
  return {
    hasHungUp(socket) {
      const descriptor = descriptorOf(socket);
      return descriptor === null || (descriptor >= 0 && native.hasHungUp(descriptor));
    },
    unacknowledgedBytes(socket) {
      const descriptor = descriptorOf(socket);
      return descriptor === null || descriptor < 0 ? 0 : native.unacknowledgedBytes(descriptor);
    },
  };
}

/** Node has no public name for a socket's descriptor; its own tests and debuggers use this one. Null once it is closed. */
function descriptorOf(socket: Socket): number | null {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  return handle === null ? null : handle.fd;
}
