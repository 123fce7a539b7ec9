import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { builtMain } from '../support/daemon-paths.ts';
import { launch, startDaemon } from '../support/daemon.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { listeningPortsOf, statusOf } from '../support/process.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

/** What node prints when it opens its debugger port, or tries to. */
const debuggerWords = /[Dd]ebugger|inspector/;

const rounds = 20;

describe('SIGUSR1', () => {
  test('to a daemon that listens opens no port and does no harm', async (context) => {
    needs(context, 'root');
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: upstream.args });
    for (let round = 0; round < rounds; round++) {
      daemon.signal('SIGUSR1');
      expect((await ask(daemon.port)).status).toBe(200);
      expect(listeningPortsOf(daemon.pid)).toEqual([daemon.port]);
    }
    expect(daemon.stderr).not.toMatch(debuggerWords);
  });

  test('in the middle of an exchange opens no port and does no harm', async (context) => {
    needs(context, 'root');
    const upstream = await startUpstream();
    const daemon = await startDaemon({ args: upstream.args });
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    const request = await upstream.nextRequest();
    daemon.signal('SIGUSR1');
    await request.reply(answer(200, '{}'));
    expect((await client.response()).status).toBe(200);
    expect(listeningPortsOf(daemon.pid)).toEqual([daemon.port]);
  });

  test('while the key is awaited opens no port, and the key stays safe', async (context) => {
    needs(context, 'root');
    const running = launch({ stdin: () => {} });
    // The memory for the key is the last thing it takes before it reads.
    await expect.poll(() => statusOf(running.pid, 'VmLck'), { interval: 5 }).not.toBe('0 kB');
    for (let round = 0; round < rounds; round++) running.signal('SIGUSR1');
    running.child.stdin?.end(`${running.key}\n`);
    const [, port] = await running.waitForStderr(/listening on 127\.0\.0\.1:(\d+)/);
    expect(listeningPortsOf(running.pid)).toEqual([Number(port)]);
    expect(running.stderr).not.toMatch(debuggerWords);
  });
});

test('the other signal that node can be asked to act on (--heapsnapshot-signal, --report-signal) writes nothing', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const cwd = scratchFolder();
  const daemon = await startDaemon({ args: upstream.args, cwd });
  daemon.signal('SIGUSR2');
  expect((await ask(daemon.port)).status).toBe(200);
  expect((await daemon.stop()).code).toBe(0);
  expect(readdirSync(cwd)).toEqual([]);
  expectNoPieceOf(daemon.key, daemon.stderr);
});

test('node started with --inspect does not get as far as the key', async () => {
  const child = spawn(process.execPath, ['--inspect=0', builtMain], { env: {}, stdio: ['pipe', 'ignore', 'pipe'] });
  cleanUp(() => child.kill('SIGKILL'));
  const [code] = (await once(child, 'exit')) as [number | null];
  expect(code).toBe(3);
});
