import { expect, test } from 'vitest';
import { eventually, establishedConnections } from '../support/process-facts.ts';
import { asking, startBoth } from '../support/proxied.ts';
import { answer } from '../support/upstream.ts';

// undici asserts that its parser is not paused when a connection ends that would not have been used again.
test.for(['FIN', 'RST'] as const)('a client that leaves with %s and has not read an answer with Connection: close: the daemon serves on', async (ending) => {
  const both = await startBoth();
  for (let count = 0; count < 5; count++) {
    const { client, request } = await asking(both);
    client.pause();
    void request.reply('HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n');
    void request.reply(Buffer.concat([Buffer.from('1000000\r\n'), Buffer.alloc(0x1000000, 'x')]));
    const { remotePort } = request.connection.tcp;
    // The daemon has stopped to read: the upstream's bytes wait in the kernel.
    await eventually(() => establishedConnections().some(({ local, remote, unread }) => local === remotePort && remote === both.upstream.port && unread > 0), () => 'the daemon to pause');
    if (ending === 'FIN') client.close();
    else client.reset();
    expect(await request.connection.closed()).not.toBe('local');
  }
  both.startOver(answer(200, '{}'));
  expect((await both.ask()).status).toBe(200);
  expect(both.daemon.exit).toBeUndefined();
});
