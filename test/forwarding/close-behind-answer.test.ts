import { getDefaultHighWaterMark } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { mebibyte } from '../support/process-facts.ts';
import { startBoth } from '../support/proxied.ts';
import { ask, connect, parseResponses } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

/** Large enough that writing it to a client asks for a pause with its last piece, small enough that one pause is all. */
const body = Buffer.alloc(getDefaultHighWaterMark(false) + 16 * 1024, 'a');

/** More answers than the kernel keeps for a client that does not read. */
const count = Math.ceil((24 * mebibyte) / body.length);

const answers = {
  'a length': answer(200, body),
  'a length, announced': answer(200, body, [['connection', 'close']]),
  'no length': Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), body]),
};

describe('a client that does not read, and an upstream that closes behind its answer', () => {
  test.for(Object.entries(answers))('with %s: all answers arrive whole, and the daemon runs on', async ([kind, raw]) => {
    const isAnnounced = kind !== 'a length';
    const both = await startBoth({ upstream: { tls: false } });
    both.startOver((request) => {
      void request.reply(raw);
      if (isAnnounced) request.connection.halfClose();
    });
    const { requests } = both.upstream;
    const client = await connect(both.daemon.port);
    client.pause();
    const others = async (): Promise<void> => {
      // Once two others have been answered, the daemon has seen what came before.
      for (let index = 0; index < 2; index++) await ask(both.daemon.port, { method: 'GET', target: '/elsewhere' });
    };

    // A request is served when the answer before it is out: where none goes up any more, an answer is stuck.
    let sent = 0;
    do {
      expect(sent).toBeLessThan(count);
      await client.send(both.rawRequest());
      sent++;
      await others();
    } while (requests.length === sent);
    if (!isAnnounced) {
      // Not behind each answer: a request that is sent into a close which nobody announced may well fail.
      requests.at(-1)?.connection.halfClose();
      await others();
    }

    client.resume();
    // The last request waits for the answer before it, or came too early; then the connection ends.
    await client.until(() => client.ending !== undefined || client.received.length > sent * body.length, 'the last answer');
    await client.send(both.rawRequest({ headers: [['Connection', 'close']] }));
    expect(await client.waitForClose()).toBe('end');
    const responses = parseResponses(client.received, true);
    expect(responses.length).toBeGreaterThanOrEqual(sent - 1);
    expect(responses.every(({ status, complete, body: received }) => status === 200 && complete && received.equals(body))).toBe(true);
    expect((await both.daemon.stop()).code).toBe(0);
  });
});
