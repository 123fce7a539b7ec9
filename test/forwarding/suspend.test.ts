import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { suspendCheck } from '../../src/proxy/suspend-check.ts';
import { shell } from '../support/daemon.ts';
import { startBoth } from '../support/proxied.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer } from '../support/upstream.ts';

const hourSeconds = 3_600;

test('after a suspend the idle connection is closed, and the request goes out on a fresh one', async (context) => {
  needs(context, 'root', 'command unshare', 'command mount');
  // libuv reads the clock that goes on in a suspend from here.
  const uptime = join(scratchFolder(), 'uptime');
  const file = openSync(uptime, 'w');
  // Over the old text: an empty file would send the reader to the real clock.
  const set = (seconds: number): void => void writeSync(file, `${(performance.now() / 1000 + seconds).toFixed(2).padStart(20, '0')} 0.00\n`, 0);
  set(hourSeconds);
  const clock = setInterval(set, 20, hourSeconds);
  try {
    const both = await startBoth({
      daemon: { prefix: ['unshare', '--mount', ...shell(`mount --bind ${uptime} /proc/uptime`)] },
      upstream: { answer: answer(200, '{}') },
    });
    expect((await both.ask()).status).toBe(200);
    clearInterval(clock);
    const before = [...both.upstream.connections];
    set(3 * hourSeconds);
    // With a request the daemon looks at the clocks, but not more often than every five seconds.
    await expect.poll(async () => {
      expect((await both.ask()).status).toBe(200);
      return both.upstream.connections.length;
    }, { interval: 250 }).toBeGreaterThan(before.length);
    for (const connection of before) expect(await connection.closed()).not.toBe('local');
  } finally {
    clearInterval(clock);
    closeSync(file);
  }
});

describe('two clocks, one of which stands while the machine is suspended', () => {
  const start = () => {
    const now = { bootMs: 1_000_000, steadyMs: 5_000 };
    const wasSuspended = suspendCheck({ bootMs: () => now.bootMs, steadyMs: () => now.steadyMs });
    const pass = (awakeMs: number, suspendedMs = 0): void => {
      now.steadyMs += awakeMs;
      now.bootMs += awakeMs + suspendedMs;
    };
    return { wasSuspended, pass };
  };

  test('no suspend, however long', () => {
    const { wasSuspended, pass } = start();
    for (const ms of [1, 10_000, 86_400_000]) {
      pass(ms);
      expect(wasSuspended()).toBe(false);
    }
  });

  test('a suspend is told once', () => {
    const { wasSuspended, pass } = start();
    pass(10_000, 60_000);
    expect(wasSuspended()).toBe(true);
    pass(10_000);
    expect(wasSuspended()).toBe(false);
    pass(10_000, 60_000);
    expect(wasSuspended()).toBe(true);
  });

  test('one that comes right after a look is told by the next', () => {
    const { wasSuspended, pass } = start();
    pass(10_000);
    expect(wasSuspended()).toBe(false);
    pass(1_000, 60_000);
    wasSuspended();
    pass(10_000);
    expect(wasSuspended()).toBe(true);
  });

  test('clocks that are read a moment apart, or that NTP slews, are none', () => {
    const { wasSuspended, pass } = start();
    for (let count = 0; count < 100; count++) {
      pass(6_000, 500);
      expect(wasSuspended()).toBe(false);
    }
  });
});
