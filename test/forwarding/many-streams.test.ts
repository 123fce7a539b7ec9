import { expect, test } from 'vitest';
import { chunk } from '../support/http-bytes.ts';
import { descriptorsOf, establishedTo, eventually } from '../support/process-facts.ts';
import { asking, startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

const count = 100;

test('100 streams at once, of which every other client hangs up: the others arrive whole, nothing stays', async () => {
  const both = await startBoth();
  both.startOver(answer(200, '{}'));
  await ask(both.daemon.port);
  both.startOver();
  const handlesBefore = descriptorsOf(both.daemon.pid);

  const streams = [];
  for (let index = 0; index < count; index++) streams.push(await asking(both, { body: `stream ${index}` }));
  for (const { request } of streams) await request.reply(streamHead());
  for (let event = 0; event < 3; event++) {
    for (const [index, { request }] of streams.entries()) await request.reply(chunk(`data: ${index}.${event}\n\n`));
    for (const [index, { client }] of streams.entries()) await client.waitFor(`data: ${index}.${event}\n\n`);
  }

  const leaving = streams.filter((_, index) => index % 2 === 1);
  const staying = streams.filter((_, index) => index % 2 === 0);
  for (const [index, { client }] of leaving.entries()) {
    if (index % 2 === 0) client.close();
    else client.reset();
  }
  for (const { request } of leaving) expect(await request.connection.closed()).not.toBe('local');
  for (const { request } of staying) expect(request.connection.ending).toBe(undefined);

  for (const [index, { request }] of staying.entries()) await request.reply(Buffer.concat([chunk(`data: last ${index}\n\n`), Buffer.from('0\r\n\r\n')]));
  for (const [index, { client }] of staying.entries()) {
    const response = await client.response();
    expect(response.complete).toBe(true);
    expect(response.text()).toBe(`data: ${2 * index}.0\n\ndata: ${2 * index}.1\n\ndata: ${2 * index}.2\n\ndata: last ${index}\n\n`);
    client.close();
  }
  await eventually(() => establishedTo(both.daemon.port) === 0, () => 'all client connections to end');
  // Connections kept to the upstream are idle; the others are closed.
  const idle = (): number => both.upstream.openConnections.length;
  if (handlesBefore !== undefined) {
    await eventually(() => (descriptorsOf(both.daemon.pid) ?? 0) - idle() <= handlesBefore, () => `handles: ${descriptorsOf(both.daemon.pid)}, of which ${idle()} lie idle; before ${handlesBefore}`);
  }
  both.startOver(answer(200, 'fine'));
  expect((await ask(both.daemon.port)).text()).toBe('fine');
});
