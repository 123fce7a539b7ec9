import { expect, test } from 'vitest';
import { chunk } from '../support/http-bytes.ts';
import { establishedConnections, mebibyte } from '../support/process-facts.ts';
import { asking, startBoth, type Underway } from '../support/proxied.ts';
import { standstill } from '../support/standstill.ts';
import { answer } from '../support/upstream.ts';

const endings: Record<string, (underway: Underway) => void> = {
  'the client leaves with FIN': ({ client }) => client.close(),
  'the client leaves with RST': ({ client }) => client.reset(),
  'the upstream ends with FIN': ({ request }) => request.connection.close(),
  'the upstream ends with RST': ({ request }) => request.connection.reset(),
};

const body = Buffer.alloc(64 * mebibyte, 'x');

const responses: Record<string, { readonly head: string; readonly body: Buffer }> = {
  'chunked': { head: 'Transfer-Encoding: chunked\r\n', body: chunk(body) },
  'with a length': { head: `Content-Length: ${2 * body.length}\r\n`, body },
  'chunked, and the last on its connection': { head: 'Transfer-Encoding: chunked\r\nConnection: close\r\n', body: chunk(body) },
  'with a length, and the last on its connection': { head: `Content-Length: ${2 * body.length}\r\nConnection: close\r\n`, body },
  'delimited by the end of the connection': { head: '', body },
};

// undici asserts that its parser is not paused when such a connection closes; a failed assertion would end the daemon.
test.for(Object.keys(responses).flatMap((kind) => Object.keys(endings).map((end) => [kind, end] as const)))('a response that the client does not read, %s: the daemon lives on when %s', async ([kind, end]) => {
  const both = await startBoth();
  const underway = await asking(both);
  const { client, request } = underway;
  client.pause();
  const response = responses[kind];
  if (response === undefined) expect.fail('there is no such response');
  void request.reply(`HTTP/1.1 200 OK\r\n${response.head}\r\n`);
  void request.reply(response.body);
  const daemonsPort = request.connection.tcp.remotePort;
  // Bytes that stay unread: the daemon has stopped reading from the upstream.
  await standstill(() => establishedConnections().find(({ local, remote }) => local === daemonsPort && remote === both.upstream.port)?.unread ?? 0);
  endings[end]?.(underway);
  await request.connection.closed();
  both.upstream.answerWith(answer(200, 'other'));
  for (let count = 0; count < 3; count++) expect((await both.ask()).text()).toBe('other');
  client.close();
  expect((await both.ask()).text()).toBe('other');
  expect(both.daemon.exit).toBe(undefined);
});
