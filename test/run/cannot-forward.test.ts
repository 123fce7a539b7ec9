import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copyBuild } from '../support/copy-build.ts';
import { launch } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';
import { freePort } from '../support/upstream.ts';

test('a daemon that cannot forward ends, says why, and is never healthy', async () => {
  const port = await freePort();
  const folder = scratchFolder();
  const launcher = copyBuild(folder);
  for (const parser of ['llhttp_simd-wasm.js', 'llhttp-wasm.js']) rmSync(join(folder, 'node_modules', 'undici', 'lib', 'llhttp', parser));
  const running = launch({ launcher, args: ['--http-health', '--port', String(port)] });
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
