import { describe, expect, test } from 'vitest';
import { chunk } from '../support/http-bytes.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, asking, startBoth, uploadHead } from '../support/proxied.ts';
import { type RawResponse, ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

const json = ['Content-Type', 'application/json'] as const;
const body = '{"model":"gpt-5"}';

/** Rules beside the limits: none of them reads the body, or one does. */
const kinds = [['that reads no body', {}], ['that reads the body', { models: ['gpt-*'] }]] as const;

const post = (port: number): Promise<RawResponse> => ask(port, { headers: [json], body });

describe.each(kinds)('a policy %s', (_, rules) => {
  let both: Proxied;

  async function startWith(limits: object, ...args: readonly string[]): Promise<void> {
    both = await startBoth({ args: [...policyArgs({ ...rules, limits }), ...args] });
    both.upstream.answerWith(answer(200, '{}'));
  }

  test('of 20 requests on each of 5 connections at once, "requests_per_minute" of them go up', async () => {
    await startWith({ requests_per_minute: 7 });
    const request = rawRequest(both.daemon.port, { headers: [json], body });
    const statuses = await Promise.all(Array.from({ length: 5 }, async () => {
      const client = await connect(both.daemon.port);
      const answers: number[] = [];
      while (answers.length < 20) {
        await client.send(request);
        answers.push((await client.response()).status);
      }
      return answers;
    }));
    expect(statuses.flat().sort()).toEqual([...Array<number>(7).fill(200), ...Array<number>(93).fill(429)]);
    expect(both.upstream.requests).toHaveLength(7);
  });

  test('no more than "concurrent" of 100 go up at any time, while places come and go', async () => {
    await startWith({ concurrent: 4 });
    let [running, most, served] = [0, 0, 0];
    both.upstream.answerWith((request) => {
      most = Math.max(most, ++running);
      setTimeout(() => {
        running--; // before the answer: the daemon gives the place back when it has that
        void request.reply(answer(200, '{}'));
      }, 3);
    });
    await Promise.all(Array.from({ length: 100 }, async () => {
      const client = await connect(both.daemon.port);
      for (let count = 0; count < 3; count++) {
        await client.send(rawRequest(both.daemon.port, { headers: [json], body }));
        if ((await client.response()).status === 200) served++;
      }
      client.close();
    }));
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(4);
    expect(served).toBeGreaterThan(4);
    expect(both.upstream.requests).toHaveLength(served);
  });

  test('a place is free again however an exchange ends', async () => {
    await startWith({ concurrent: 1 }, '--response-timeout', '0.3', '--connect-timeout', '5');
    const { port } = both.daemon;
    const free = async (how: string): Promise<void> => {
      both.upstream.answerWith(answer(200, '{}'));
      await expect.poll(async () => (await post(port)).status, { message: how }).toBe(200);
      both.startOver();
    };
    const raw = (text: string | Buffer) => async (): Promise<void> => {
      both.upstream.answerWith(text);
      await post(port);
    };
    const ways: ReadonlyArray<readonly [string, () => Promise<unknown>]> = [
      ['an answer without a body', raw('HTTP/1.1 204 No Content\r\n\r\n')],
      ['an answer that is none', raw('nonsense\r\n\r\n')],
      ['an answer in a foreign coding', raw('HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n')],
      ['no answer in time', () => post(port)],
      ['an answer that is cut', async () => {
        const { client, request } = await asking(both, { headers: [json], body });
        await request.reply(`${streamHead()}5\r\nhello\r\n`);
        await client.waitFor('hello');
        request.connection.reset();
      }],
      ['an answer before the end of the upload', async () => {
        const client = await connect(port);
        await client.send(`${uploadHead(port, `Content-Length: 1000\r\nContent-Type: application/json`)}${body}`);
        both.upstream.answerWith(answer(413));
        await client.send(' '.repeat(500));
        client.close();
      }],
      ['a chunk that breaks', async () => {
        const client = await connect(port);
        await client.send(`${uploadHead(port, 'Transfer-Encoding: chunked')}${chunk(body).toString()}nonsense\r\n`);
        await client.response();
      }],
      ['a client that leaves before its answer', async () => (await asking(both, { headers: [json], body })).client.reset()],
      ['a client that leaves in its answer', async () => {
        const { client, request } = await asking(both, { headers: [json], body });
        await request.reply(streamHead());
        await client.waitFor('\r\n\r\n');
        client.close();
      }],
    ];
    for (const [how, play] of ways) {
      both.startOver();
      await play();
      await free(how);
    }

    // No connection, and one to somebody else; a client that leaves while it is being made.
    const { port: upstreamPort } = both.upstream;
    await both.upstream.close();
    expect((await post(port)).status).toBe(502);
    expect((await post(port)).status).toBe(502);
    const other = await startUpstream({ port: upstreamPort, tls: 'wrongHost' });
    expect([(await post(port)).status, (await post(port)).status]).toEqual([502, 502]);
    await other.close();
    const silent = await startUpstream({ port: upstreamPort });
    const client = await connect(port);
    await client.send(rawRequest(port, { headers: [json], body }));
    (await silent.nextConnection()).pause();
    client.reset();
    await silent.close();
    const last = await startUpstream({ port: upstreamPort, answer: answer(200, '{}') });
    await expect.poll(async () => (await post(port)).status).toBe(200);
    await last.close();
  });
});

test('who uploads slowly to a policy that reads the body holds no place, and gets one only if there is one at its end', async () => {
  const both = await startBoth({ args: policyArgs({ models: ['gpt-*'], limits: { concurrent: 1 } }) });
  const { port } = both.daemon;
  const slow = await Promise.all(Array.from({ length: 5 }, async () => {
    const client = await connect(port);
    await client.send(`${uploadHead(port, `Content-Type: application/json\r\nContent-Length: ${body.length}`)}${body.slice(0, -1)}`);
    return client;
  }));
  both.upstream.answerWith(answer(200, '{}'));
  expect((await post(port)).status).toBe(200);
  both.startOver();
  for (const client of slow) await client.send('}');
  const request = await both.nextRequest();
  const isRefused = (): boolean[] => slow.map(({ text }) => text.startsWith('HTTP/1.1 429'));
  await expect.poll(() => isRefused().filter(Boolean).length).toBe(4);
  await request.reply(answer(200, '{}'));
  await slow[isRefused().indexOf(false)]?.waitFor('HTTP/1.1 200');
  expect(both.upstream.requests).toHaveLength(2);
});
