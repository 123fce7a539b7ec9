// header-string-proxy.mjs UPSTREAM-URL CA-FILE
//
// What everyone would write first: the key is a string, and undici sends it as a header. It is the control of the
// memory scans, which have to find the key in it. Reads the key from stdin, prints its port.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { Agent, request } from 'undici';

const [, , upstream, ca] = process.argv;
const key = readFileSync(0, 'latin1').trim();
const dispatcher = new Agent({ connect: { ca: readFileSync(ca) } });

const server = http.createServer(async (req, res) => {
  const { host, connection, 'transfer-encoding': coding, ...headers } = req.headers;
  try {
    const answer = await request(upstream, { dispatcher, method: 'POST', headers: { ...headers, authorization: `Bearer ${key}` }, body: req });
    res.writeHead(answer.statusCode, { 'content-type': answer.headers['content-type'] ?? 'text/plain' });
    answer.body.on('error', () => res.destroy()).pipe(res);
  } catch {
    if (!res.headersSent) res.writeHead(502);
    res.end();
  }
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`));
