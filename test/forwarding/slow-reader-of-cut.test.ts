import { expect, test } from 'vitest';
import { asking, startBoth } from '../support/proxied.ts';

test('a client that reads slowly gets all that came of a cut answer, and then the reset', async () => {
  const both = await startBoth();
  const { client, request } = await asking(both);
  // More than the kernel's buffers on the way take, so that most of it waits in the daemon when the upstream ends.
  const body = Buffer.alloc(12 * 1024 * 1024, 'x');
  client.pause();
  await request.reply(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length + 1}\r\n\r\n`);
  const sent = request.reply(body);
  for (let received = -1; client.received.length !== received; ) {
    received = client.received.length;
    client.resume();
    await client.until(() => client.received.length > received, 'more of the body');
    client.pause();
    if (received > body.length / 2) break;
  }
  client.resume();
  await sent;
  request.connection.halfClose();
  expect(await client.wasReset()).toBe(true);
  const response = await client.response();
  expect(response.complete).toBe(false);
  expect(response.body.length).toBe(body.length);
});
