import { describe, expect, test } from 'vitest';
import { asking, startBoth } from '../support/proxied.ts';

const rounds = 40;

// Where bytes and a reset arrive at once, libuv reports a plain end. An answer without a length would look whole.
describe.for([['in the clear', false], ['over TLS', 'good']] as const)('an answer with neither length nor chunks, %s', ([, tls]) => {
  test('and a reset right behind its bytes never looks whole', async () => {
    const both = await startBoth({ upstream: { tls } });
    for (let round = 0; round < rounds; round++) {
      const { client, request } = await asking(both);
      void request.reply(`HTTP/1.1 200 OK\r\n\r\n${'a'.repeat(100)}`);
      // In the same turn, and in later ones.
      if (round % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      request.connection.reset();
      const response = await client.response();
      expect([200, 502]).toContain(response.status);
      if (response.status === 200) expect(response.complete).toBe(false);
      client.close();
    }
  });

  test('and a plain end behind it is whole', async () => {
    const both = await startBoth({ upstream: { tls } });
    for (let round = 0; round < rounds; round++) {
      const { client, request } = await asking(both);
      void request.reply(`HTTP/1.1 200 OK\r\n\r\n${'a'.repeat(100)}`);
      request.connection.halfClose();
      const response = await client.response();
      expect([response.status, response.complete, response.body.length]).toEqual([200, true, 100]);
      client.close();
    }
  });
});
