import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeBulk } from '../support/bulk.ts';
import { chunk } from '../support/http-bytes.ts';
import { mebibyte } from '../support/process-facts.ts';
import { startBoth, uploadHead, type Proxied } from '../support/proxied.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { answer, type UpstreamRequest } from '../support/upstream.ts';

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

const tooLarge = answer(413, '{"error":"too large"}');

/** What the upstream does with its connection after its response. */
const afterwards: ReadonlyArray<readonly [string, (request: UpstreamRequest) => void]> = [
  ['goes on reading', () => {}],
  ['stops reading', (request) => request.connection.pause()],
  ['ends its side, and goes on reading', (request) => request.connection.halfClose()],
  ['closes', (request) => request.connection.close()],
];

describe.for([['a length', `Content-Length: ${64 * mebibyte}`], ['chunks', 'Transfer-Encoding: chunked']] as const)('413 while an upload with %s runs', ([kind, framing]) => {
  const frame = kind === 'chunks' ? chunk : (piece: Buffer): Buffer => piece;

  test.for(afterwards)('and the upstream %s: the client that still sends gets it', async ([, then]) => {
    for (let count = 0; count < 5; count++) {
      const client = await connect(both.daemon.port);
      await client.send(uploadHead(both.daemon.port, framing));
      const sending = writeBulk(client.socket, 64 * mebibyte, frame);
      const request = await both.nextRequest();
      await request.bodyReaches(1);
      await request.reply(tooLarge);
      then(request);
      const response = await client.response();
      expect(response.status).toBe(413);
      expect(response.complete).toBe(true);
      expect(response.text()).toBe('{"error":"too large"}');
      expect(request.isComplete).toBe(false);
      client.close();
      await sending;
    }
  });

  test('to a client that pauses its upload', async () => {
    const client = await connect(both.daemon.port);
    await client.send(uploadHead(both.daemon.port, framing));
    await client.send(frame(Buffer.from('first')));
    const request = await both.nextRequest();
    await request.reply(tooLarge);
    expect((await client.response()).status).toBe(413);
  });
});

test('a client that reads only after it has sent everything gets it too', async () => {
  const length = 16 * mebibyte;
  const client = await connect(both.daemon.port);
  client.pause();
  await client.send(uploadHead(both.daemon.port, `Content-Length: ${length}`));
  const sending = writeBulk(client.socket, length);
  const request = await both.nextRequest();
  await request.bodyReaches(1);
  await request.reply(tooLarge);
  expect(await sending).toBe(length);
  client.resume();
  expect((await client.response()).status).toBe(413);
});

test('the connection serves the next request once the upload is over', async () => {
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, 'Content-Length: 100000'));
  await client.send(Buffer.alloc(50_000, 'x'));
  const request = await both.nextRequest();
  await request.reply(tooLarge);
  expect((await client.response()).status).toBe(413);
  await client.send(Buffer.alloc(50_000, 'y'));
  both.upstream.answerWith(answer(200, 'next'));
  await client.send(rawRequest(both.daemon.port, { body: 'next' }));
  const outcome = await client.response().then((response) => response.text(), () => 'closed');
  // It may also be closed instead, but the rest of an upload is never taken for a request.
  expect(['next', 'closed']).toContain(outcome);
  expect(both.upstream.requests.every(({ method }) => method === 'POST')).toBe(true);
  both.upstream.answerWith(() => {});
});

test('an answer to a head whose body has not begun reaches the client', async () => {
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, 'Content-Length: 100'));
  await client.send('x');
  await (await both.nextRequest()).reply(answer(401, 'no'));
  expect((await client.response()).text()).toBe('no');
});
