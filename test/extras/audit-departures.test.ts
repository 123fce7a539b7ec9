import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { requestsOf } from '../support/audit.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, startBoth, uploadHead } from '../support/proxied.ts';
import { type RawClient, ask, connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, streamHead } from '../support/upstream.ts';

const json = ['Content-Type', 'application/json'] as const;
const body = '{"model":"gpt-5","input":"hello"}';

let file: string;
let both: Proxied;

beforeEach(async () => {
  file = join(scratchFolder(), 'audit.log');
  both = await startBoth({ args: ['--audit-log', file, '--http-health', ...policyArgs({ models: ['gpt-*'], limits: { concurrent: 1 } })] });
});

/** Where a client is when it leaves, and what is recorded of its requests: how each ended, and its status. */
const stages: ReadonlyArray<readonly [string, (client: RawClient, port: number) => Promise<void>, ...string[]]> = [
  ['before it has asked', async () => {}],
  ['before its body', (client, port) => client.send(uploadHead(port, 'Content-Length: 100')), 'client_left'],
  ['before the body that it was told to send', async (client, port) => {
    await client.send(uploadHead(port, 'Expect: 100-continue\r\nContent-Length: 100'));
    await client.waitFor('100 Continue');
  }, 'client_left'],
  ['in its body', (client, port) => client.send(`${uploadHead(port, 'Content-Length: 100')}{"model":"gpt-5"`), 'client_left'],
  ['in a chunk', (client, port) => client.send(`${uploadHead(port, 'Transfer-Encoding: chunked')}10\r\n{"model"`), 'client_left'],
  ['in the body of what was refused', async (client, port) => {
    await client.send(`${uploadHead(port, 'Content-Length: 100').replace('/v1/responses', '/v1/models')}{`);
    await client.response();
  }, 'refused 403'],
  ['before its answer', async (client, port) => {
    await client.send(rawRequest(port, { headers: [json], body }));
    await both.nextRequest();
  }, 'client_left'],
  ['before its answer, with another request behind it, which is not acted on', async (client, port) => {
    const request = rawRequest(port, { headers: [json], body });
    await client.send(Buffer.concat([request, request]));
    await both.nextRequest();
  }, 'client_left'],
  ['in its answer', async (client, port) => {
    await client.send(rawRequest(port, { headers: [json], body }));
    await (await both.nextRequest()).reply(streamHead());
    await client.waitFor('\r\n\r\n');
  }, 'client_left 200'],
];

describe.each(['close', 'reset', 'halfClose'] as const)('a client that leaves by %s', (leave) => {
  test('is recorded once for each of its requests, and gives its place back, wherever it was', async () => {
    let before = 0;
    for (const [where, play, ...expected] of stages) {
      both.startOver();
      const client = await connect(both.daemon.port);
      await play(client, both.daemon.port);
      // A round trip on another connection: what came before it has been read.
      await ask(both.daemon.port, { method: 'GET', target: '/health' });
      client[leave]();
      const records = (): string[] => requestsOf(file).slice(before).filter(({ target }) => target !== '/health')
        .map(({ ended, status }) => `${String(ended)}${status === undefined ? '' : ` ${String(status)}`}`);
      await expect.poll(records, { message: where }).toEqual(expected);
      client.close();
      both.upstream.answerWith(answer(200, '{}'));
      expect((await ask(both.daemon.port, { headers: [json], body })).status, where).toBe(200);
      expect(records(), where).toEqual([...expected, 'complete 200']);
      before = requestsOf(file).length;
    }
  });
});
