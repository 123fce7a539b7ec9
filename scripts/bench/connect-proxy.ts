// A corporate proxy: opens a tunnel to a port of this machine for each CONNECT. Prints its port.
import { createServer } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';

const server = createServer((_req, res) => { res.writeHead(405).end(); });
server.on('connect', (req, client) => {
  const target = connect({ port: Number(req.url?.split(':').at(-1)), host: '127.0.0.1', noDelay: true }, () => {
    client.write('HTTP/1.1 200 Connection established\r\n\r\n');
    client.pipe(target).pipe(client);
  });
  target.on('error', () => { client.destroy(); });
  client.on('error', () => { target.destroy(); });
});
server.listen(0, '127.0.0.1', () => { console.log((server.address() as AddressInfo).port); });
