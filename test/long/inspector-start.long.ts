import { setImmediate as tick } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { launch, type Running } from '../support/daemon.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { listeningPortsOf } from '../support/process.ts';
import { needs } from '../support/skip.ts';

const rounds = 20;

/** The ports of a process, or none if it has ended. */
function portsOf(running: Running): number[] {
  try {
    return listeningPortsOf(running.pid);
  } catch {
    return [];
  }
}

describe('SIGUSR1 to a daemon that starts', () => {
  // Node listens for it before any script runs. Such an early signal may end the start, but must not open a port.
  test('again and again from the first moment on never opens a port', async (context) => {
    needs(context, 'root');
    for (let round = 0; round < rounds; round++) {
      const running = launch();
      const seen = new Set<number>();
      const isSettled = (): boolean => running.exit !== undefined || /listening on/.test(running.stderr);
      while (!isSettled()) {
        running.signal('SIGUSR1');
        for (const port of portsOf(running)) seen.add(port);
        await tick();
      }
      const own = Number(/listening on 127\.0\.0\.1:(\d+)/.exec(running.stderr)?.[1] ?? Number.NaN);
      seen.delete(own);
      expect([...seen], `round ${round}: ${running.stderr}`).toEqual([]);
      expect(running.stderr).not.toMatch(/Debugger listening/);
      expectNoPieceOf(running.key, running.stderr);
      running.signal('SIGKILL');
      await running.waitForExit();
    }
  });

  // One signal, at each of many moments of the start: the flood above is over once the first of them kills a shell.
  test('at any moment of the start never opens a port', async (context) => {
    needs(context, 'root');
    const stepMs = 4;
    for (let delayMs = 10; delayMs < 100; delayMs += stepMs) {
      const running = launch();
      const began = performance.now();
      const seen = new Set<number>();
      let isSent = false;
      while (running.exit === undefined && !/listening on/.test(running.stderr)) {
        if (!isSent && performance.now() - began >= delayMs) {
          running.signal('SIGUSR1');
          isSent = true;
        }
        for (const port of portsOf(running)) seen.add(port);
        await tick();
      }
      const own = Number(/listening on 127\.0\.0\.1:(\d+)/.exec(running.stderr)?.[1] ?? Number.NaN);
      if (!Number.isNaN(own)) expect(listeningPortsOf(running.pid)).toEqual([own]);
      seen.delete(own);
      expect([...seen], `after ${delayMs} ms: ${running.stderr}`).toEqual([]);
      expect(running.stderr, `after ${delayMs} ms`).not.toMatch(/Debugger listening/);
      expectNoPieceOf(running.key, running.stderr);
      running.signal('SIGKILL');
      await running.waitForExit();
    }
  });
});
