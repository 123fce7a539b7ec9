import net from 'node:net';
import { describe, expect, test } from 'vitest';
import { startBoth } from '../support/proxied.ts';
import { answer } from '../support/upstream.ts';
import { chunked } from '../support/http-bytes.ts';

const requests = 100_000;

const answers: Record<string, Buffer> = {
  'a length': answer(200, 'ok'),
  'chunks': Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n'), chunked('ok')]),
};

/** Sends `request` the moment the last byte of the answer before it is there; resolves with how many answers came. */
function inARow(port: number, request: Buffer, count: number, isWhole: (text: string) => boolean): Promise<number> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(request)).setNoDelay(true);
    let [answered, text] = [0, ''];
    socket.setEncoding('latin1').on('data', (piece: string) => {
      text += piece;
      if (!isWhole(text)) return;
      expect(text).toMatch(/^HTTP\/1\.1 200 /);
      text = '';
      if (++answered < count) socket.write(request);
      else socket.destroy();
    });
    socket.on('error', () => {}).once('close', () => resolve(answered));
  });
}

// A client has the last byte of an answer before the daemon knows that it is out.
describe.for(Object.entries(answers))('answers with %s', ([, raw]) => {
  test.for([1, 16])('a client that sends its next request at once is never cut: 100,000 requests over %i connections', async (connections) => {
    const both = await startBoth({ upstream: { keepBytes: 0, answer: raw } });
    // The test's upstream remembers each request: one that forgets does for this.
    const forget = setInterval(() => both.upstream.requests.splice(0), 100);
    const isWhole = (text: string): boolean => text.endsWith('ok') || text.endsWith('ok\r\n0\r\n\r\n');
    const each = requests / connections;
    const answered = await Promise.all(Array.from({ length: connections }, () => inARow(both.daemon.port, both.rawRequest(), each, isWhole)));
    clearInterval(forget);
    expect(answered).toEqual(Array(connections).fill(each));
  });
});
