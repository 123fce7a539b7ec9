import type { Socket } from 'node:net';
import type { Native } from '../native/native.ts';

/** What poll(2) answers: the other end has closed, both have, it was reset. Node has no constants for these. */
const [POLLRDHUP, POLLHUP, POLLERR] = [0x2000, 0x10, 0x8];

export type KernelSockets = ReturnType<typeof kernelSockets>;

/** What the kernel can tell of a TCP connection and do to it, and node cannot. Of a stream in memory it knows nothing. */
export function kernelSockets(native: Native) {
  const ask = <T>(socket: Socket, question: (descriptor: number) => T, otherwise: T): T => {
    const descriptor = descriptorOf(socket) ?? -1;
    return descriptor < 0 ? otherwise : question(descriptor);
  };
  const endedWith = (socket: Socket, ends: number): boolean => ask(socket, (descriptor) => (native.pollEnds(descriptor) & ends) !== 0, false);
  return {
    /** Whether the other end has closed it, also while nothing is read from it. */
    hasHungUp: (socket: Socket): boolean => descriptorOf(socket) === null || endedWith(socket, POLLRDHUP | POLLHUP | POLLERR),
    /** Whether it ended with a reset, where it is still open here: libuv reports a plain end where bytes come with it. */
    wasReset: (socket: Socket): boolean => endedWith(socket, POLLHUP | POLLERR),
    /** Bytes that were written and that the other end has not acknowledged. */
    unacknowledgedBytes: (socket: Socket): number => ask(socket, native.unacknowledgedBytes, 0),
    /**
     * Closes it with a reset, at once. Not by `resetAndDestroy`: that one ends the socket first, and a FIN may reach the
     * other end before the reset does.
     */
    reset(socket: Socket): void {
      ask(socket, native.resetOnClose, undefined);
      socket.destroy();
    },
  };
}

/** Node has no public name for a socket's descriptor; its own tests and debuggers use this one. Null once it is closed, undefined in memory. */
export function descriptorOf(socket: Socket): number | null | undefined {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null | undefined };
  return handle === null ? null : handle?.fd;
}
