import { join } from 'node:path';
import { expect, test } from 'vitest';
import { requestsOf } from '../support/audit.ts';
import { endpoints } from '../support/endpoints.ts';
import { chunk } from '../support/http-bytes.ts';
import { startBoth } from '../support/proxied.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { streamHead } from '../support/upstream.ts';

test.each(endpoints)('a stream at $name that comes byte by byte passes as it comes, and its usage is recorded when it ends', async (endpoint) => {
  const file = join(scratchFolder(), 'audit.log');
  const both = await startBoth({ endpoint, args: ['--audit-log', file] });
  const client = await connect(both.daemon.port);
  await client.send(rawRequest(both.daemon.port, { target: endpoint.path, body: endpoint.request }));
  const request = await both.nextRequest();
  const stream = Buffer.from(endpoint.events.join(''));
  await request.reply(streamHead());
  for (const byte of stream) await request.reply(chunk(Buffer.from([byte])));
  await client.waitForBytes(stream.length);
  // All of it is on its way but the end.
  expect(requestsOf(file)).toEqual([]);
  await request.reply('0\r\n\r\n');
  const response = await client.response();
  const [record] = requestsOf(file);
  expect(response.body).toEqual(stream);
  expect(record).toMatchObject({ ended: 'complete', id: response.values('x-audit-id')[0], model: 'gpt-5', stream: true, bytes_down: stream.length });
  expect(record?.['usage']).toMatchObject({ total: Number(/"total_tokens":(\d+)/.exec(stream.toString())?.[1]) });
});
