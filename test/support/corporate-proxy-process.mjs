/**
 * A corporate proxy: understands CONNECT and nothing else, in a process of its own. Tells its port, then what it sees, as lines of JSON on stdout.
 *
 * argv[2] is JSON: { mode, credentials, answer, map, identity }
 *   mode         'tunnel'; 'hang': takes the request and says nothing; 'cut': takes the request and resets;
 *                'refuse': sends `answer`; 'cut tunnel': opens it and resets once the first bytes came through it
 *   credentials  'user:password', or undefined for none
 *   answer       raw bytes (latin1) to answer a CONNECT with
 *   map          { 'host:port': port of 127.0.0.1 }, for names that do not exist
 *   identity     { cert, key }, paths: it speaks TLS
 */
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const { mode, credentials, answer, map = {}, identity } = JSON.parse(process.argv[2] ?? '{}');
const tell = (fact) => process.stdout.write(`${JSON.stringify(fact)}\n`);

const options = { noDelay: true, allowHalfOpen: true };
const server = identity === undefined ? net.createServer(options, accept) : tls.createServer({ ...options, cert: readFileSync(identity.cert), key: readFileSync(identity.key) }, accept);

function accept(client) {
  let head = '';
  client.on('error', () => {});
  client.on('close', () => tell({ closed: true }));
  const onData = (data) => {
    head += data.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    client.off('data', onData);
    client.pause();
    serve(client, head.slice(0, end + 4), Buffer.from(head.slice(end + 4), 'latin1'));
  };
  client.on('data', onData);
}

function serve(client, head, rest) {
  tell({ request: head, isResumed: client.isSessionReused?.() });
  const [, authority] = /^CONNECT (\S+) HTTP\/1\.1\r\n/.exec(head) ?? [];
  if (authority === undefined) return client.end('HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n');
  if (mode === 'hang') return client.on('end', () => client.end()).resume();
  if (mode === 'cut') return client.resetAndDestroy();
  if (mode === 'refuse') return client.end(Buffer.from(answer, 'latin1'));
  const [, given = ''] = /^proxy-authorization: Basic (\S+)\r$/im.exec(head) ?? [];
  if (credentials !== undefined && Buffer.from(given, 'base64').toString() !== credentials) {
    return client.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="test"\r\nContent-Length: 0\r\n\r\n');
  }
  const [host, port] = [authority.slice(0, authority.lastIndexOf(':')).replace(/^\[|\]$/g, ''), Number(authority.slice(authority.lastIndexOf(':') + 1))];
  const target = map[authority] === undefined ? { host, port } : { host: '127.0.0.1', port: map[authority] };
  const upstream = net.connect({ ...target, noDelay: true, allowHalfOpen: true }, () => {
    client.write(Buffer.from(answer ?? 'HTTP/1.1 200 Connection established\r\n\r\n', 'latin1'));
    upstream.write(rest);
    if (mode === 'cut tunnel') {
      client.once('data', () => {
        client.resetAndDestroy();
        upstream.destroy();
      });
      return client.resume();
    }
    let seen = '';
    client.on('data', (data) => {
      seen = (seen + data.toString('latin1')).slice(-64 * 1024);
    });
    client.on('close', () => tell({ through: Buffer.from(seen, 'latin1').toString('base64') }));
    client.on('end', () => upstream.destroySoon());
    client.pipe(upstream).pipe(client);
  });
  upstream.on('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n'));
  upstream.on('close', () => client.destroySoon());
  client.on('close', () => upstream.destroy());
}

process.on('SIGTERM', () => process.exit(0));
server.listen(0, '127.0.0.1', () => tell({ port: server.address().port }));
