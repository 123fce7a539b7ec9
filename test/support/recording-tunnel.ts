import http from 'node:http';
import net from 'node:net';
import { cleanUp } from './cleanup.ts';

/** A corporate proxy that tunnels wherever it is asked to. */
export interface RecordingTunnel {
  /** For --upstream-proxy. */
  readonly url: string;
  /** How many tunnels it has made. */
  readonly tunnels: number;
  /** All bytes that it was given to carry to the upstream. */
  readonly sent: Buffer;
}

/** Starts a proxy. `recordBytes`: how much of what goes up is kept. */
export async function startRecordingTunnel(recordBytes = 0): Promise<RecordingTunnel> {
  let tunnels = 0;
  let kept = 0;
  const pieces: Buffer[] = [];
  const sockets = new Set<net.Socket>();
  const server = http.createServer((_req, res) => res.writeHead(405).end());
  server.on('connection', (socket) => sockets.add(socket));
  server.on('connect', (req, client: net.Socket, head) => {
    const [host = '', port = ''] = req.url?.split(':') ?? [];
    const upstream = net.connect(Number(port), host);
    sockets.add(upstream);
    tunnels++;
    upstream.once('connect', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.write(head);
      client.on('data', (data: Buffer) => {
        if (kept < recordBytes) pieces.push(data);
        kept += data.length;
      });
      client.pipe(upstream).pipe(client);
    });
    for (const [one, other] of [[client, upstream], [upstream, client]] as const) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return {
    url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    get tunnels() {
      return tunnels;
    },
    get sent() {
      return Buffer.concat(pieces);
    },
  };
}
