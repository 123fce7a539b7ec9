import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { launch, shell } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { freePort } from '../support/upstream.ts';

test('a daemon that cannot forward ends, says why, and is never healthy', async () => {
  const port = await freePort();
  // Enough for node, and too little for the memory that WebAssembly reserves.
  const running = launch({ args: ['--http-health', '--port', String(port)], prefix: shell('ulimit -v 4000000') });
  const answers: string[] = [];
  while (running.exit === undefined) answers.push(await healthOf(port));
  expect(refusalOf(running.exit, 1)).toMatch(/HTTP client/);
  expect(answers.filter((answer) => answer !== '')).toEqual([]);
});

/** The first bytes of the answer to GET /health; empty where there is none. */
function healthOf(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(`GET /health HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`));
    let answer = '';
    socket.on('data', (data) => {
      answer = data.toString('latin1');
      socket.destroy();
    });
    socket.on('error', () => {}).on('close', () => resolve(answer));
  });
}
