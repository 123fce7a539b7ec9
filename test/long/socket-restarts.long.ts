import { expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { activated, crowd, listeningSocket } from '../support/inherited-socket.ts';
import { answer, startUpstream } from '../support/upstream.ts';

test.for([
  ['a new connection for each request', false],
  ['kept connections', true],
] as const)('five restarts under load through one socket: no connection is refused or lost, each exit is 0: %s', async ([, keepsConnections]) => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const socket = await listeningSocket();
  const start = (): Promise<Daemon> => startDaemon({ ...activated(socket.fd), args: upstream.args });
  let daemon = await start();
  const clients = crowd(socket.port, { keepsConnections });
  for (let restart = 0; restart < 5; restart++) {
    const before = clients.answered;
    await expect.poll(() => clients.answered, { interval: 5 }).toBeGreaterThan(before + 100);
    daemon.signal('SIGTERM');
    expect(await daemon.waitForExit(15_000)).toMatchObject({ code: 0, signal: null });
    daemon = await start();
  }
  expect(await clients.stop()).toEqual({});
});
