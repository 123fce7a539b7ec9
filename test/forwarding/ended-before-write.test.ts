import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { uploadHead } from '../support/proxied.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { startRecordUpstream, type RecordConnection } from '../support/record-upstream.ts';

const alert = 21;
const closeNotify = Buffer.from([1, 0]);

// TLS ends without a FIN, which the kernel would tell of. The daemon is stopped meanwhile, so that it finds both at once.
test.for(['before', 'after'] as const)('a connection that ends %s a request has chosen it, and before that is written: the client is told, or it goes out on another', async (order) => {
  const upstream = await startRecordUpstream();
  const daemon = await startDaemon({ args: [...upstream.args] });
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  expect((await client.response()).status).toBe(200);
  const [connection] = upstream.connections as [RecordConnection];

  daemon.signal('SIGSTOP');
  if (order === 'before') connection.send(alert, closeNotify);
  await client.send(`${uploadHead(daemon.port, 'Transfer-Encoding: chunked')}1\r\na\r\n`);
  if (order === 'after') connection.send(alert, closeNotify);
  daemon.signal('SIGCONT');
  await client.send('0\r\n\r\n');
  const response = await client.response();
  if (response.status !== 200) expect([response.status, envelopeOf(response).code]).toEqual([502, 'upstream_unreachable']);
});
