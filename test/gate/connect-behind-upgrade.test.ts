import { beforeAll, describe, expect, test } from 'vitest';
import { mebibyte } from '../support/process-facts.ts';
import { startBoth, type Proxied } from '../support/proxied.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

// Behind an Upgrade nothing is a request. Node still gives the connection up for a CONNECT, with all its listeners: neither
// the client's reading nor its leaving would be noticed any more, and connection and upstream would be held for ever.

let both: Proxied;

beforeAll(async () => {
  both = await startBoth({ args: ['--http-shutdown'] });
});

const connectRequest = 'CONNECT example:1 HTTP/1.1\r\nHost: example:1\r\n\r\n';
const upgrade = (target = '/v1/responses'): Buffer => rawRequest(both.daemon.port, { target, headers: [['Connection', 'Upgrade'], ['Upgrade', 'h2c']] });

describe('a CONNECT behind an Upgrade', () => {
  test('while an answer is stalled: the client and the upstream are let go', async () => {
    both.startOver(answer(200, Buffer.alloc(32 * mebibyte, 'a')));
    const client = await connect(both.daemon.port);
    client.pause();
    await client.send(upgrade());
    const request = await both.nextRequest();
    await request.complete();
    await client.send(connectRequest);
    await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
    client.resume();
    await client.waitForClose();
  });

  test('while the upstream is silent: the same', async () => {
    both.startOver();
    const client = await connect(both.daemon.port);
    await client.send(upgrade());
    const request = await both.nextRequest();
    await request.complete();
    await client.send(connectRequest);
    await client.waitForClose();
    await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
  });

  test('that was refused: the refusal arrives, and the connection ends', async () => {
    const client = await connect(both.daemon.port);
    await client.send(Buffer.concat([upgrade('/v1/models'), Buffer.from(connectRequest)]));
    expect((await client.response()).status).toBe(403);
    await client.waitForClose();
  });
});
