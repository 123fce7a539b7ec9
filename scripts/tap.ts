import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface TappedRequest {
  /** The request line and the header lines, without the empty line. */
  readonly head: string;
  readonly body: Buffer;
}

/** A relay that hands every byte on unchanged, in both directions, and remembers what the clients sent. */
export interface Tap {
  readonly port: number;
  /** The complete requests so far, connection by connection. */
  requests(): TappedRequest[];
  close(): Promise<void>;
}

/** Relays from any free port of 127.0.0.1 to `targetPort` there. */
export async function startTap(targetPort: number): Promise<Tap> {
  const sent: Buffer[][] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const chunks: Buffer[] = [];
    sent.push(chunks);
    const target = connect(targetPort, '127.0.0.1');
    for (const [socket, other] of [[client, target], [target, client]] as const) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on('error', () => { other.destroy(); }); // A broken connection must look broken on the other side as well.
      socket.on('close', () => { sockets.delete(socket); });
    }
    client.on('data', (chunk: Buffer) => { chunks.push(chunk); });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    requests: () => sent.flatMap((chunks) => requestsIn(Buffer.concat(chunks))),
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Cuts the bytes of one connection into requests with Content-Length; one that is not complete is left out. */
function requestsIn(bytes: Buffer): TappedRequest[] {
  const requests: TappedRequest[] = [];
  for (let start = 0; ;) {
    const headEnd = bytes.indexOf('\r\n\r\n', start);
    if (headEnd === -1) return requests;
    const head = bytes.toString('latin1', start, headEnd);
    const bodyStart = headEnd + 4;
    const bodyEnd = bodyStart + Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
    if (bodyEnd > bytes.length) return requests;
    requests.push({ head, body: bytes.subarray(bodyStart, bodyEnd) });
    start = bodyEnd;
  }
}
