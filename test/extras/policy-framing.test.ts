import { readFileSync } from 'node:fs';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { chunk } from '../support/http-bytes.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, startBoth, uploadHead } from '../support/proxied.ts';
import { Random, seed } from '../support/random.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

const codexRequest = readFileSync(new URL('fixtures/codex-request.json', import.meta.url));

let both: Proxied;

beforeAll(async () => {
  both = await startBoth({ args: policyArgs({ models: ['gpt-*'], max_body_bytes: 100_000 }) });
});

beforeEach(() => both.startOver((request) => answer(200, request.bodyHash())));

/** What is asked, and the status that it gets. */
interface Question {
  readonly bytes: Buffer;
  readonly body: Buffer;
  readonly status: number;
}

const bodies: ReadonlyArray<readonly [status: number, body: (random: Random) => Buffer | string]> = [
  [200, () => codexRequest],
  [200, (random) => `{"model":"gpt-${random.text(random.whole(1, 50), 'abc*')}","input":"${'é'.repeat(random.whole(0, 20_000))}"}`],
  [200, () => ' \r\n{ "mod\\u0065l" : "gpt-5", "metadata":[[[]]], "top_p": 1e999 }\n\t'],
  [400, (random) => `{"model":"o1","input":"${'x'.repeat(random.whole(0, 90_000))}"}`],
  [400, () => '{"Model":"gpt-5","model":"gpt-5"}'],
  [400, () => '{"model":"gpt-5","mod\\u0065l":"gpt-5"}'],
  [400, () => ''],
  [400, () => '{"model":"gpt-5"}{"model":"gpt-5"}'],
  [400, () => `POST /v1/responses HTTP/1.1\r\nHost: x\r\n\r\n`],
  [400, (random) => Buffer.concat([Buffer.from('{"model":"gpt-5","input":"'), random.bytes(random.whole(1, 5_000)), Buffer.from('\xff"}', 'latin1')])],
];

function question(random: Random, port: number): Question {
  const [status, make] = random.pick(bodies);
  const body = Buffer.from(make(random) as string);
  const [isChunked, expects] = [random.chance(0.5), random.chance(0.2)];
  const framing = isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`;
  const pieces = random.split(body, random.whole(1, 20)).filter((piece) => piece.length > 0);
  const sent = isChunked ? Buffer.concat([...pieces.map((piece) => chunk(piece)), Buffer.from('0\r\n\r\n')]) : body;
  return { status, body, bytes: Buffer.concat([Buffer.from(uploadHead(port, `${expects ? 'Expect: 100-continue\r\n' : ''}Content-Type: application/json\r\n${framing}`)), sent]) };
}

describe(`requests of all kinds behind each other on a connection, seed ${seed}`, () => {
  test.each(['one write each', 'pieces of any size'] as const)('%s: each gets its own answer, and exactly those that are granted go up, byte for byte', async (how) => {
    const random = new Random(seed);
    for (let round = 0; round < 6; round++) {
      both.startOver((request) => answer(200, request.bodyHash()));
      const before = both.upstream.requests.length;
      const client = await connect(both.daemon.port);
      const questions = Array.from({ length: 12 }, () => question(random, both.daemon.port));
      const statuses: number[] = [];
      for (const { bytes } of questions) {
        for (const piece of how === 'one write each' ? [bytes] : random.split(bytes, 20)) await client.send(piece);
        statuses.push((await client.response()).status);
      }
      expect(statuses).toEqual(questions.map(({ status }) => status));
      const arrived = both.upstream.requests.slice(before);
      const granted = questions.filter(({ status }) => status === 200);
      expect(arrived.map((request) => request.body.toString('latin1'))).toEqual(granted.map(({ body }) => body.toString('latin1')));
      for (const request of arrived) expect([request.values('content-length'), request.values('transfer-encoding')]).toEqual([[String(request.bodyLength)], []]);
      client.close();
    }
  });
});

test('a request that comes byte by byte is judged, and passed on, as one', async () => {
  const client = await connect(both.daemon.port);
  const body = Buffer.from('{"model":"gpt-5","input":"\\u00e9é"}');
  for (const byte of rawRequest(both.daemon.port, { headers: [['Content-Type', 'application/json']], body })) await client.send(Buffer.from([byte]));
  expect((await client.response()).status).toBe(200);
  expect((await both.nextRequest()).body).toEqual(body);
});
