// An empty node:http handler, as a floor: it reads the request to its end and answers with a constant. Prints its port.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const answer = Buffer.alloc(1024, 'x');

const server = createServer({ keepAliveTimeout: 0, noDelay: true }, (req, res) => {
  req.resume();
  req.once('end', () => {
    res.writeHead(200, ['Content-Type', 'application/json', 'Content-Length', '1024']);
    res.end(answer);
  });
}).listen(0, '127.0.0.1', () => { console.log((server.address() as AddressInfo).port); });
