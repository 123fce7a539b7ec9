import { describe, expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { caFile } from '../support/certificates.ts';
import { runTool } from '../support/native-tools.ts';
import { realPeers, startBackend } from '../support/real-peers.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';

const announcedBytes = 100_000;
const sentBytes = 60_000;

/** As requests and urllib3 before 2.0 read: an end within the length is no error, a reset is. Prints what became of the answer. */
const readAsRequests = `
import http.client, ssl, sys
scheme, port, ca = sys.argv[1:4]
client = http.client.HTTPSConnection('localhost', int(port), context=ssl.create_default_context(cafile=ca)) if scheme == 'https' else http.client.HTTPConnection('127.0.0.1', int(port))
client.request('POST', '/v1/responses', body=b'{}')
answer = client.getresponse()
size = 0
try:
    while True:
        piece = answer.read(4096)
        if not piece:
            break
        size += len(piece)
    print('whole', size)
except OSError as error:
    print(type(error).__name__, size)
`;

describe.for(['nginx', 'haproxy'] as const)('an answer with a Content-Length that is cut behind %s', (command) => {
  const start = async () => {
    const backend = await startBackend((res) => {
      res.writeHead(200, { 'content-type': 'application/json', 'content-length': announcedBytes });
      res.write(Buffer.alloc(sentBytes, 'x'), () => res.destroy());
    });
    const upstream = await realPeers[command](backend.port);
    return { upstream, daemon: await startDaemon({ args: upstream.args }) };
  };

  test('is no success for a client that reads as python\'s requests do', async (context) => {
    needs(context, `command ${command}`, 'command python3');
    const { upstream, daemon } = await start();
    // The control: asked without the daemon, the same client takes the same answer for whole.
    expect((await runTool('python3', ['-c', readAsRequests, 'https', String(upstream.port), caFile()])).stdout).toMatch(/^whole \d+\n$/);
    for (let count = 0; count < 10; count++) {
      const { stdout, stderr } = await runTool('python3', ['-c', readAsRequests, 'http', String(daemon.port), '']);
      // Not all of it: what python has buffered when the reset comes, it keeps.
      expect(stdout, stderr).toMatch(/^ConnectionResetError \d+\n$/);
    }
  });

  test('is no success for node\'s fetch', async (context) => {
    needs(context, `command ${command}`);
    const { daemon } = await start();
    for (let count = 0; count < 10; count++) {
      const response = await fetch(daemon.url, { method: 'POST', body: '{}' });
      expect(response.status).toBe(200);
      await expect(response.text()).rejects.toThrow('terminated');
    }
  });

  test('is no success for curl', async (context) => {
    needs(context, `command ${command}`, 'command curl');
    const { daemon } = await start();
    expect((await runTool('curl', ['-s', '-d', '{}', '-o', '/dev/null', daemon.url])).code).not.toBe(0);
  });

  test('ends in a reset, after all that came of it', async (context) => {
    needs(context, `command ${command}`);
    const { daemon } = await start();
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port, { body: '{}' }));
    expect(await client.wasReset()).toBe(true);
    const response = await client.response();
    expect([response.status, response.complete, response.body.length]).toEqual([200, false, sentBytes]);
  });
});
