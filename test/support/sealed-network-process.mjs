/**
 * Servers in a network namespace. argv[2] is JSON: { recording, tls, cert, key }. Tells what reaches them, as lines of JSON on stdout.
 *
 *   recording  ports on which a connection's first bytes are told, before it is closed
 *   tls        [{ host, port }]: tells of each handshake, with `cert` and `key`, which are paths
 *
 * Answers each line on stdin with one that tells nothing.
 */
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const { recording = [], tls: secure = [], cert, key } = JSON.parse(process.argv[2] ?? '{}');
const tell = (fact) => process.stdout.write(`${JSON.stringify(fact)}\n`);
const listening = (server, ...where) => new Promise((resolve, reject) => server.once('error', reject).listen(...where, resolve));

function kindOf(bytes) {
  if (bytes[0] === 0x16) return 'TLS';
  if (bytes[0] === 0x04 || bytes[0] === 0x05) return 'SOCKS';
  return bytes.toString('latin1').split(' ', 1)[0];
}

for (const port of recording) {
  const server = net.createServer((client) => {
    client.on('error', () => {}).once('data', (bytes) => {
      tell({ reached: `${kindOf(bytes)} at ${port}` });
      client.end('HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n', () => client.destroy());
    });
  });
  await listening(server, port, '::');
}
for (const { host, port } of secure) {
  const server = tls.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (client) => {
    tell({ reached: client.localAddress });
    client.on('error', () => {}).once('data', () => client.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
  }).on('tlsClientError', () => {});
  await listening(server, port, host);
}
process.stdin.on('data', () => tell({}));
tell({});
