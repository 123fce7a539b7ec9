import { expect, test } from 'vitest';
import type { Daemon } from '../support/daemon.ts';
import { cpuMs } from '../support/process-facts.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';
import { standstill } from '../support/standstill.ts';
import { answer } from '../support/upstream.ts';

const rounds = 5;

/** How many times as long as an idle daemon one with open connections may take to exit. An idle one takes about 30 ms; every timer of the daemon's is 500 ms or more. */
const mostRatio = 6;

async function exitMs(daemon: Daemon, signals: readonly NodeJS.Signals[]): Promise<number> {
  const before = performance.now();
  for (const signal of signals) daemon.signal(signal);
  expect(await daemon.waitForExit()).toMatchObject({ code: 0, signal: null });
  return performance.now() - before;
}

/** The median over some daemons, each prepared by `prepare`. */
async function medianExitMs(prepare: (both: Proxied) => Promise<unknown>, signals: readonly NodeJS.Signals[] = ['SIGTERM']): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const both = await startBoth();
    await prepare(both);
    // The first exchange makes node compile undici's parser on another thread, and an exit waits for that.
    await standstill(() => cpuMs(both.daemon.pid));
    times.push(await exitMs(both.daemon, signals));
  }
  return times.sort((a, b) => a - b)[Math.floor(rounds / 2)] ?? Number.NaN;
}

/** A client that keeps its connection open after a response. */
async function keep(both: Proxied): Promise<void> {
  const { client, request } = await asking(both);
  await request.reply(answer(200, '{}'));
  await client.response();
}

const cases: ReadonlyArray<readonly [string, (both: Proxied) => Promise<unknown>, (readonly NodeJS.Signals[])?]> = [
  ['kept-alive connections', (both) => Promise.all([keep(both), keep(both), keep(both)])],
  ['connections that sent nothing, or half a head', async (both) => {
    await connect(both.daemon.port);
    await (await connect(both.daemon.port)).send('POST /v1/resp');
    await keep(both);
  }],
  ['half-closed clients', async (both) => {
    (await connect(both.daemon.port)).halfClose();
    await keep(both);
  }],
  ['a running response, after a second signal', async (both) => void (await asking(both)), ['SIGTERM', 'SIGINT']],
];

test('open connections do not make the exit slower', async () => {
  const idleMs = await medianExitMs(async () => {});
  for (const [name, prepare, signals] of cases) {
    const takenMs = await medianExitMs(prepare, signals);
    console.log(`${name}: ${takenMs.toFixed(0)} ms; an idle daemon: ${idleMs.toFixed(0)} ms`);
    expect(takenMs, name).toBeLessThan(mostRatio * idleMs);
  }
});
