import type { Socket } from 'node:net';
import type { Native } from '../native/native.ts';

/** What the kernel can tell of a TCP connection and do to it, and node cannot. */
export interface KernelSockets {
  /** Whether the other end has closed it, also while nothing is read from it. */
  hasHungUp(socket: Socket): boolean;
  /** Whether it ended with a reset, where it is still open here: libuv reports a plain end where bytes come with it. */
  wasReset(socket: Socket): boolean;
  /** Bytes that were written and that the other end has not acknowledged. */
  unacknowledgedBytes(socket: Socket): number;
  /**
   * Closes it with a reset, at once. Not by `resetAndDestroy`: that one ends the socket first, and a FIN may reach the
   * other end before the reset does.
   */
  reset(socket: Socket): void;
}

/** What poll(2) answers: the other end has closed, both have, it was reset. Node has no constants for these. */
const [POLLRDHUP, POLLHUP, POLLERR] = [0x2000, 0x10, 0x8];

/** Knows nothing: for sockets that are none of the kernel's. */
export const noKernelSockets: KernelSockets = {
  hasHungUp: () => false,
  wasReset: () => false,
  unacknowledgedBytes: () => 0,
  reset: (socket) => void socket.resetAndDestroy(),
};

export function kernelSockets(native: Native): KernelSockets {
  return {
    hasHungUp(socket) {
      const descriptor = descriptorOf(socket);
      return descriptor === null || (descriptor >= 0 && (native.pollEnds(descriptor) & (POLLRDHUP | POLLHUP | POLLERR)) !== 0);
    },
    wasReset(socket) {
      const descriptor = descriptorOf(socket) ?? -1;
      return descriptor >= 0 && (native.pollEnds(descriptor) & (POLLHUP | POLLERR)) !== 0;
    },
    unacknowledgedBytes(socket) {
      const descriptor = descriptorOf(socket) ?? -1;
      return descriptor < 0 ? 0 : native.unacknowledgedBytes(descriptor);
    },
    reset(socket) {
      const descriptor = descriptorOf(socket) ?? -1;
      if (descriptor >= 0) native.resetOnClose(descriptor);
      socket.destroy();
    },
  };
}

/** How often we look whether a client is still there, while nothing is read from it. */
const presenceCheckMs = 50;

/**
 * Looks whether a client has left. To be used while nothing may be read from its socket, for then nothing else tells.
 *
 * @param isOver ends the watch, as the end of the socket does
 * @param onLeft may be called again, until then
 */
export function watchPresence(socket: Socket, sockets: KernelSockets, isOver: () => boolean, onLeft: () => void): void {
  const timer = setInterval(() => {
    if (socket.destroyed || isOver()) clearInterval(timer);
    else if (sockets.hasHungUp(socket)) onLeft();
  }, presenceCheckMs);
}

/** Node has no public name for a socket's descriptor; its own tests and debuggers use this one. Null once it is closed. */
export function descriptorOf(socket: Socket): number | null {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  return handle === null ? null : handle.fd;
}
