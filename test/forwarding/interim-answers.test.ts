import { beforeAll, beforeEach, expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { asking, startBoth, uploadHead, type Proxied } from '../support/proxied.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

const hints = 'HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nlink: </a>\r\n\r\n';
const processing = 'HTTP/1.1 102 Processing\r\n\r\n';
const goOn = 'HTTP/1.1 100 Continue\r\n\r\n';

const sequences: ReadonlyArray<readonly [string, readonly string[]]> = [
  ['100', [goOn]],
  ['102', [processing]],
  ['103', [hints]],
  ['199', ['HTTP/1.1 199 Whatever\r\nx-a: 1\r\n\r\n']],
  // It is about this hop alone, and curl takes the answer all the same.
  ['103 with Connection: close', ['HTTP/1.1 103 Early Hints\r\nconnection: close\r\n\r\n']],
  ['100 and 103 with Connection: close', [goOn, 'HTTP/1.1 103 Early Hints\r\nconnection: close\r\n\r\n', processing]],
  ['several', [processing, hints, processing, hints]],
  ['100 among others', [processing, goOn, hints, goOn]],
  ['many', Array.from({ length: 200 }, () => processing)],
];

test.for(sequences)('%s, then the answer: it arrives, and none of theirs is in it', async ([, interim]) => {
  for (const together of [false, true]) {
    const { client, request } = await asking(both);
    if (together) {
      await request.reply(Buffer.concat([...interim.map((one) => Buffer.from(one)), answer(200, 'whole')]));
    } else {
      for (const one of interim) await request.reply(one);
      await request.reply(answer(200, 'whole'));
    }
    const response = await client.response();
    expect(response.status).toBe(200);
    expect(response.text()).toBe('whole');
    expect(response.values('link')).toEqual([]);
    // The next response belongs to the next request.
    both.upstream.answerWith(answer(200, 'next'));
    await client.send(rawRequest(both.daemon.port));
    expect((await client.response()).text()).toBe('next');
    await both.nextRequest();
    both.upstream.answerWith(() => {});
  }
});

test.for([['100', goOn], ['102', processing], ['103', hints]] as const)('%s while the upload still runs', async ([, interim]) => {
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, 'Transfer-Encoding: chunked'));
  await client.send(chunk('first,'));
  const request = await both.nextRequest();
  await request.bodyReaches(6);
  await request.reply(interim);
  await client.send(chunk('second'));
  await request.bodyReaches(12);
  await request.reply(interim);
  await client.send('0\r\n\r\n');
  await request.complete();
  await request.reply(answer(200, 'whole'));
  expect((await client.response()).text()).toBe('whole');
});

test('an unrequested 101 is an invalid response', async () => {
  const { client, request } = await asking(both, { headers: [['Connection', 'Upgrade'], ['Upgrade', 'websocket']] });
  await request.reply('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello');
  const response = await client.response();
  expect(response.status).toBe(502);
  expect(envelopeOf(response).code).toBe('upstream_protocol');
  expect(client.text).not.toContain('101 Switching');
  expect(await request.connection.closed()).not.toBe('local');
});

test.for([
  ['lines that end otherwise', 'HTTP/1.1 103 Early Hints\nlink: </a>\n\n'],
  ['one line that does', 'HTTP/1.1 103 Early Hints\r\nlink: </a>\n\n'],
])('an interim answer with %s is an invalid response: where it ends is unclear', async ([, interim]) => {
  const { client, request } = await asking(both);
  await request.reply(`${interim}${answer(200, answer(200, 'whose?')).toString()}`);
  const response = await client.response();
  expect([response.status, envelopeOf(response).code]).toEqual([502, 'upstream_protocol']);
});

test('an upstream that ends after an interim response counts as failed', async () => {
  const { client, request } = await asking(both);
  await request.reply(hints);
  request.connection.close();
  const response = await client.response();
  expect(response.status).toBe(502);
  expect(envelopeOf(response).code).toBe('upstream_unreachable');
});
