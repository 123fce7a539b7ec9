import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { randomKey, startDaemon } from '../support/daemon.ts';
import { chunk } from '../support/http-bytes.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { startUpstream, streamHead } from '../support/upstream.ts';

const looks = 15;
const event = `data: ${'sk-proj- some text of an answer, '.repeat(40)}\n\n`;

/** The stack of a process's first thread, as it is this moment. */
function stackOf(pid: number): Int32Array {
  process.kill(pid, 'SIGSTOP');
  try {
    const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) .*\[stack\]$/m.exec(readFileSync(`/proc/${pid}/maps`, 'latin1')) ?? [];
    const bytes = Buffer.alloc(parseInt(to, 16) - parseInt(from, 16));
    const memory = openSync(`/proc/${pid}/mem`, 'r');
    readSync(memory, bytes, 0, bytes.length, parseInt(from, 16));
    closeSync(memory);
    return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

/** The most characters of the key whose last position some table on the stack tells: `table[character] = position`. */
function bestTable(stack: Int32Array, key: string): number {
  const wanted = [...new Set(key)].map((character) => [character.charCodeAt(0), key.lastIndexOf(character)] as const);
  let best = 0;
  for (let base = 0; base + 256 <= stack.length; base++) {
    let told = 0;
    for (const [character, position] of wanted) if (stack[base + character] === position) told++;
    best = Math.max(best, told);
  }
  return best;
}

test('the search for the key in an answer leaves no table of its bytes on the stack', async (context) => {
  needs(context, 'root');
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  await request.reply(streamHead());
  for (let look = 0; look < looks; look++) {
    await request.reply(chunk(`id: ${look}\n${event}`));
    await client.waitFor(`id: ${look}\n`);
    expect(bestTable(stackOf(daemon.pid), daemon.key)).toBeLessThan(8);
  }
});

test('the control: a search with the key as needle leaves one', async (context) => {
  needs(context, 'root');
  const key = randomKey();
  const child = spawn(process.execPath, ['-e', `const text = Buffer.from('sk-proj- some text'.repeat(99)); console.log('searching');
    setInterval(() => { for (let i = 0; i < 1000; i++) text.indexOf('${key}', 0, 'latin1'); }, 0)`]);
  cleanUp(() => void child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  let best = 0;
  for (let look = 0; look < looks && best < 20; look++) best = Math.max(best, bestTable(stackOf(child.pid ?? 0), key));
  expect(best).toBeGreaterThan(20);
});
