import { beforeAll, beforeEach, expect, test } from 'vitest';
import { chunked } from '../support/http-bytes.ts';
import { startBoth, uploadHead, type Proxied } from '../support/proxied.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

test('requests sent at once are answered in order, one exchange at a time', async () => {
  const { upstream, daemon } = both;
  const client = await connect(daemon.port);
  const bodies = ['one', 'two', 'three', 'four', 'five', 'six'];
  await client.send(Buffer.concat(bodies.map((body, index) => (index % 2 === 0
    ? rawRequest(daemon.port, { body })
    : Buffer.concat([Buffer.from(uploadHead(daemon.port, 'Transfer-Encoding: chunked')), chunked(body)])))));
  const before = upstream.requests.length;
  for (const [index, body] of bodies.entries()) {
    const request = await (await both.nextRequest()).complete();
    expect(request.body.toString()).toBe(body);
    // Another client's exchange in between: if the next request had been sent, it would be here by now.
    upstream.answerWith((other) => (other.body.toString() === 'other' ? answer(200, 'other') : undefined));
    expect((await ask(daemon.port, { body: 'other' })).text()).toBe('other');
    await both.nextRequest();
    expect(upstream.requests.length).toBe(before + 2 * (index + 1));
    await request.reply(index % 2 === 0 ? answer(200, `re: ${body}`) : Buffer.concat([Buffer.from(streamHead()), chunked(`re: ${body}`)]));
    expect((await client.response()).text()).toBe(`re: ${body}`);
  }
  upstream.answerWith(() => {});
});

test('a refusal and a failure keep their place in the order of responses', async () => {
  const { daemon } = both;
  const client = await connect(daemon.port);
  await client.send(Buffer.concat([
    rawRequest(daemon.port, { body: 'one' }),
    rawRequest(daemon.port, { method: 'GET', target: '/v1/models' }),
    rawRequest(daemon.port, { body: 'three' }),
    rawRequest(daemon.port, { body: 'four' }),
  ]));
  const first = await both.nextRequest();
  expect(client.text).toBe('');
  await first.reply(answer(200, 're: one'));
  const third = await both.nextRequest();
  third.connection.reset();
  const fourth = await both.nextRequest();
  await fourth.reply(answer(200, 're: four'));
  expect((await client.responses(4)).map(({ status }) => status)).toEqual([200, 403, 502, 200]);
});

test('large bodies that wait for their turn arrive whole', async () => {
  const { upstream, daemon } = both;
  upstream.answerWith((request) => answer(200, request.bodyHash()));
  const client = await connect(daemon.port);
  const bodies = [70_000, 1, 300_000, 65_536].map((length, index) => Buffer.alloc(length, String(index)));
  const sent = client.send(Buffer.concat(bodies.map((body) => rawRequest(daemon.port, { body }))));
  expect((await client.responses(4)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  await sent;
  for (const body of bodies) expect((await both.nextRequest()).body.equals(body)).toBe(true);
  upstream.answerWith(() => {});
});

test('a response that fails in its body ends the connection, and pipelined requests are never sent', async () => {
  const { upstream, daemon } = both;
  const client = await connect(daemon.port);
  await client.send(Buffer.concat([rawRequest(daemon.port, { body: 'one' }), rawRequest(daemon.port, { body: 'never' })]));
  const request = await both.nextRequest();
  await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n12345');
  await client.waitFor('12345');
  request.connection.reset();
  expect(await client.waitForClose()).not.toBe('local');
  expect((await client.response()).complete).toBe(false);
  upstream.answerWith(answer(200, '{}'));
  expect((await ask(daemon.port, { body: 'later' })).status).toBe(200);
  expect(upstream.requests.map(({ body }) => body.toString())).not.toContain('never');
});

test('a request that breaks while it waits for its turn is never sent; it is answered in its turn, and the connection ends', async () => {
  const { upstream, daemon } = both;
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port, { body: 'one' }));
  const request = await both.nextRequest();
  const before = upstream.requests.length;
  await client.send(`${uploadHead(daemon.port, 'Transfer-Encoding: chunked')}5\r\nhello\r\nnonsense\r\n`);
  // Another client's exchange in between: what came before it has been read.
  upstream.answerWith((other) => (other.body.toString() === 'other' ? answer(200, 'other') : undefined));
  expect((await ask(daemon.port, { body: 'other' })).text()).toBe('other');
  await request.reply(answer(200, 're: one'));
  const responses = await client.responses(2);
  expect(responses.map(({ status }) => status)).toEqual([200, 400]);
  expect(responses[1]?.values('connection')).toEqual(['close']);
  expect(await client.waitForClose()).toBe('end');
  expect(upstream.requests.length).toBe(before + 1);
  upstream.answerWith(() => {});
});

test('a hundred small requests sent at once are all answered', async () => {
  const { upstream, daemon } = both;
  upstream.answerWith((request) => answer(200, request.body));
  const client = await connect(daemon.port);
  const bodies = Array.from({ length: 100 }, (_, index) => `request ${index}`);
  await client.send(Buffer.concat(bodies.map((body) => rawRequest(daemon.port, { body }))));
  await client.until(() => client.ending !== undefined || client.text.includes('request 99'), 'the last answer');
  expect(client.ending).toBe(undefined);
  expect((await client.responses(100)).map((response) => response.text())).toEqual(bodies);
  for (let count = 0; count < 100; count++) await both.nextRequest();
  upstream.answerWith(() => {});
});
