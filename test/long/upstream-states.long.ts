import { expect, test } from 'vitest';
import { reduce, scheduleOf, type Mode, type Step } from '../support/model-schedule.ts';
import { World } from '../support/model-world.ts';
import { mebibyte, memoryOf } from '../support/process-facts.ts';
import { seed } from '../support/random.ts';

const schedules = Number(process.env['TEST_SCHEDULES'] ?? 8_000);
/** To repeat one: `tls13, gathering:1234`, with its TEST_SEED. */
const only = /^(.*):(\d+)$/.exec(process.env['TEST_SCHEDULE'] ?? '');

/** Many bodies of 5 MB have passed by then, several at once. */
const mostMemory = 600 * mebibyte;

const modes: Readonly<Record<string, Mode>> = {
  'clear': { link: 'clear', gathers: false, keepsWarm: false },
  'clear, gathering': { link: 'clear', gathers: true, keepsWarm: false },
  'tls12': { link: 'tls12', gathers: false, keepsWarm: true },
  'tls12, gathering': { link: 'tls12', gathers: true, keepsWarm: false },
  'tls13': { link: 'tls13', gathers: false, keepsWarm: true },
  'tls13, gathering': { link: 'tls13', gathers: true, keepsWarm: false },
  'tunnel': { link: 'tunnel', gathers: false, keepsWarm: false },
};

async function explain(mode: Mode, steps: readonly Step[]): Promise<string> {
  const short = await reduce(steps, async (shorter) => {
    const world = await World.start(mode);
    const faults = await world.run(shorter);
    await world.stop();
    return faults.length > 0;
  });
  return short.map((step) => JSON.stringify(step)).join('\n');
}

async function runMode(name: string, mode: Mode): Promise<string[]> {
  let world = await World.start(mode);
  const findings: string[] = [];
  const [first, count] = only === null ? [0, Math.ceil(schedules / Object.keys(modes).length)] : [Number(only[2]), 1];
  for (let number = first; number < first + count; number++) {
    const steps = scheduleOf(seed, number, mode);
    const faults = [...await world.run(steps)];
    if (number % 1000 === 999 && memoryOf(world.daemon.pid).now > mostMemory) faults.push(`${memoryOf(world.daemon.pid).now} bytes of memory`);
    if (faults.length === 0) continue;
    findings.push(`TEST_SEED=${seed} TEST_SCHEDULE='${name}:${number}', after ${Math.round(performance.now() / 1000)} s: ${faults.join('; ')}\nshortest:\n${await explain(mode, steps)}`);
    console.log(findings.at(-1));
    await world.stop();
    if (findings.length === 3) break;
    world = await World.start(mode);
  }
  return findings;
}

test(`each client gets its own answer, whatever upstream and clients do (seed ${seed})`, async () => {
  const chosen = Object.entries(modes).filter(([name]) => only === null || name === only[1]);
  const findings = await Promise.all(chosen.map(([name, mode]) => runMode(name, mode)));
  expect(findings.flat()).toEqual([]);
});
