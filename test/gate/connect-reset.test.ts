import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { chunk } from '../support/http-bytes.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

test('a CONNECT whose client resets its connection does not end the daemon', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  for (let round = 0; round < 40; round++) {
    const client = await connect(daemon.port);
    await client.send(`CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n`);
    // The reset should meet the refusal at a different moment each time.
    await new Promise((resolve) => setTimeout(resolve, round % 5));
    client.socket.resetAndDestroy();
    await client.closed;
  }
  expect((await ask(daemon.port)).status).toBe(200);
  expect(daemon.exit).toBeUndefined();
});

test('a CONNECT behind a running response does not leave its client hanging', async () => {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  await request.reply(streamHead());
  await request.reply(chunk('data: one\n\n'));
  await client.waitFor('data: one');
  await client.send(`CONNECT a:1 HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\n\r\n`);
  await client.closed;
  await request.connection.closed();
});
