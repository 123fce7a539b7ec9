import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { Ledger } from '../../src/extras/audit/audit-ledger.ts';
import { AuditEntries } from '../../src/extras/audit/audit-entry.ts';
import { RequestOversight } from '../../src/extras/request-oversight.ts';
import { MemoryBudget } from '../../src/extras/whole-body.ts';
import type { Sink } from '../../src/proxy/upstream-connection.ts';

// Tested as a function: from outside, a record that comes right behind the end of its answer is nearly always there in time.

const request = { uid: undefined, method: 'POST', target: '/v1/responses', rawHeaders: [] };

/** What happens, in its order, as an answer comes: to the record, and to the client. */
function order(rawHeaders: readonly string[], ...pieces: readonly string[]): string[] {
  const heard: string[] = [];
  const entry = new AuditEntries(({ bytesDown, ended }) => heard.push(`record: ${bytesDown} bytes, ${ended}`)).begin(request);
  const oversight = new RequestOversight(entry, { policy: undefined, limits: undefined, expiry: undefined, log: undefined, ledger: new Ledger(), readsAnswer: true, held: new MemoryBudget(1_000) });
  const client: Sink = { begin() {}, head: () => true, data: (bytes) => heard.push(bytes.toString()) > 0, end: () => heard.push('end'), fail: () => heard.push('fail') };
  const fromUpstream: Sink[] = [];
  oversight.through((sink) => {
    fromUpstream.push(sink);
    return { send() {}, cancel() {} };
  }, new IncomingMessage(new Socket()))(client);
  for (const sink of fromUpstream) {
    sink.begin();
    sink.head({ status: 200, reason: 'OK', rawHeaders: [...rawHeaders] }, () => {});
    for (const piece of pieces) sink.data(Buffer.from(piece));
    sink.end();
  }
  return heard;
}

test('an answer with a length is recorded before its last piece goes down', () => {
  expect(order(['Content-Length', '6'], 'one', 'two')).toEqual(['one', 'record: 6 bytes, complete', 'two', 'end']);
  expect(order(['Content-Length', '3'], 'one')).toEqual(['record: 3 bytes, complete', 'one', 'end']);
});

test('any other is recorded before its end', () => {
  expect(order(['Transfer-Encoding', 'chunked'], 'one', 'two')).toEqual(['one', 'two', 'record: 6 bytes, complete', 'end']);
  expect(order([], 'one')).toEqual(['one', 'record: 3 bytes, complete', 'end']);
  expect(order(['Content-Length', '0'])).toEqual(['record: 0 bytes, complete', 'end']);
});
