import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { chunk, chunked } from '../support/http-bytes.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { ask, connect, rawRequest, type RawRequest } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

const old: RawRequest = { version: 'HTTP/1.0' };

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

test('a chunked answer reaches it without chunks, ended by the connection', async () => {
  const { client, request } = await asking(both, old);
  await request.reply(streamHead());
  await request.reply(chunk('data: one\n\n'));
  await client.waitFor(/\r\n\r\ndata: one\n\n$/);
  await request.reply(chunked('data: two\n\n'));
  expect(await client.waitForClose()).toBe('end');
  const response = await client.response();
  expect(response.values('transfer-encoding')).toEqual([]);
  expect(response.text()).toBe('data: one\n\ndata: two\n\n');
});

test('an answer with a length keeps it', async () => {
  const { client, request } = await asking(both, old);
  await request.reply(answer(200, 'known'));
  const response = await client.response();
  expect(response.values('content-length')).toEqual(['5']);
  expect(response.text()).toBe('known');
  expect(await client.waitForClose()).toBe('end');
});

test('it may keep the connection where it asks for it', async () => {
  both.upstream.answerWith(answer(200, 'kept'));
  const client = await connect(both.daemon.port);
  for (let count = 0; count < 2; count++) {
    await client.send(rawRequest(both.daemon.port, { ...old, headers: [['Connection', 'keep-alive']] }));
    const response = await client.response();
    expect(response.text()).toBe('kept');
    expect(response.values('connection')).toEqual(['keep-alive']);
    await both.nextRequest();
  }
  both.upstream.answerWith(() => {});
});

test('the upstream gets HTTP/1.1, and the daemon\'s own Connection: keep-alive', async () => {
  const { client, request } = await asking(both, { ...old, headers: [['Connection', 'close']] });
  expect(request.startLine).toMatch(/ HTTP\/1\.1$/);
  expect(request.values('connection').join()).not.toMatch(/close/);
  await request.reply(answer(200, '{}'));
  await client.response();
});

test('it never gets an interim answer, not even one it expects', async () => {
  const { client, request } = await asking(both, { ...old, headers: [['Expect', '100-continue']] });
  await request.reply('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n');
  await request.reply(answer(200, '{}'));
  expect((await client.response()).interim).toEqual([]);
});

describe('a cut response ends with a reset, because a plain end would look like success', () => {
  test.for([['FIN', (close: () => void) => close(), 'end'], ['RST', (_: () => void, reset: () => void) => reset(), 'reset']] as const)('%s', async ([, cut]) => {
    const { client, request } = await asking(both, old);
    await request.reply(streamHead());
    await request.reply(chunk('data: one\n\n'));
    await client.waitFor('data: one');
    cut(() => request.connection.close(), () => request.connection.reset());
    expect(await client.waitForClose()).toBe('ECONNRESET');
  });
});

test('a body without a length is no body', async () => {
  both.upstream.answerWith(answer(200, '{}'));
  expect((await ask(both.daemon.port, { ...old, body: undefined })).status).toBe(200);
  expect((await both.nextRequest()).values('content-length')).toEqual(['0']);
});
