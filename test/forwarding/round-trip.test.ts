import { beforeAll, describe, expect, test } from 'vitest';
import { passages, responses } from '../support/endpoints.ts';
import { chunked } from '../support/http-bytes.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { Random, seed } from '../support/random.ts';
import { connect } from '../support/raw-client.ts';
import { roundTrip } from '../support/round-trip.ts';

/** About how many positions in a stream are tried. */
const cutsInBody = 100;

const rounds = 50;

describe.for(passages)('$name', (endpoint) => {
  let both: Proxied;
  let cleartext: Proxied;

  beforeAll(async () => {
    [both, cleartext] = await Promise.all([startBoth({ endpoint }), startBoth({ endpoint, upstream: { tls: false } })]);
  });

  test(`what is sent arrives byte for byte, both ways (seed ${seed})`, async () => {
    const random = new Random(seed);
    for (let round = 0; round < rounds; round++) {
      try {
        await roundTrip(random.chance(0.7) ? both : cleartext, random);
      } catch (error) {
        throw new Error(`round ${round} of seed ${seed}`, { cause: error });
      }
    }
  });

  test(`an answer cut into two segments anywhere arrives the same (seed ${seed})`, async () => {
    const random = new Random(seed);
    const head = 'HTTP/1.1 201 Quite Created\r\nX-Empty:\r\nx-a:  padded \t\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Latin: caf\xe9\r\nTransfer-Encoding: chunked\r\n\r\n';
    const { events } = endpoint;
    const raw = Buffer.concat([Buffer.from(head, 'latin1'), chunked(...events)]);
    // The head is the same for all endpoints, so it is cut for one only.
    const isChosen = (cut: number): boolean => (cut < head.length ? endpoint === responses : cut > raw.length - 50 || random.chance(cutsInBody / raw.length));
    const cuts = Array.from({ length: raw.length - 1 }, (_, index) => index + 1).filter(isChosen);
    for (const cut of cuts) {
      both.startOver();
      const { client, request } = await asking(both);
      await request.reply(raw.subarray(0, cut));
      await new Promise((resolve) => setTimeout(resolve, 1));
      await request.reply(raw.subarray(cut));
      const response = await client.response();
      // The phrase carries no meaning (RFC 9112 section 4) and may be the standard one, but not a piece of either.
      expect(['HTTP/1.1 201 Quite Created', 'HTTP/1.1 201 Created'], `cut after ${cut} bytes`).toContain(response.statusLine);
      expect(response.headers.slice(0, 5), `cut after ${cut} bytes`).toEqual([['X-Empty', ''], ['x-a', 'padded'], ['Set-Cookie', 'a=1'], ['set-cookie', 'b=2'], ['X-Latin', 'caf\xe9']]);
      expect(response.text(), `cut after ${cut} bytes`).toBe(events.join(''));
      expect(response.complete, `cut after ${cut} bytes`).toBe(true);
      client.close();
    }
  });

  test('a request that comes byte by byte arrives the same', async () => {
    const client = await connect(both.daemon.port);
    both.startOver();
    const raw = Buffer.from(`${both.uploadHead('X-Empty:\r\nX-Latin: caf\xe9\r\nTransfer-Encoding: chunked')}5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n`, 'latin1');
    for (const byte of raw) await client.send(Uint8Array.of(byte));
    const request = await (await both.nextRequest()).complete();
    expect(request.headers).toContainEqual(['X-Empty', '']);
    expect(request.headers).toContainEqual(['X-Latin', 'caf\xe9']);
    expect(request.body.toString()).toBe('hello!');
    await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    expect((await client.response()).status).toBe(200);
  });
});
