import { describe, expect, test } from 'vitest';
import { type Admission, type Lease, type LimitSettings, Limits, estimateTokens, systemClock } from '../../src/extras/policy/limits.ts';
import { Random, seed } from '../support/random.ts';

const minuteMs = 60_000;
const dayMs = 86_400_000;
/** Noon of some day. */
const noon = Date.UTC(2027, 0, 15, 12);

class TestClock {
  wall = noon;
  steady = 5_000;

  wallMs = (): number => this.wall;
  steadyMs = (): number => this.steady;

  pass(ms: number): void {
    this.wall += ms;
    this.steady += ms;
  }
}

function start(settings: Partial<LimitSettings>): { limits: Limits; clock: TestClock } {
  const clock = new TestClock();
  return { limits: new Limits({ concurrent: undefined, requestsPerMinute: undefined, tokensPerDay: undefined, tokensTotal: undefined, ...settings }, clock), clock };
}

function leaseOf(admission: Admission): Lease {
  if ('refusal' in admission) throw new Error(admission.refusal.message);
  return admission.lease;
}

const isAdmitted = (admission: Admission): boolean => 'lease' in admission;

describe('concurrent', () => {
  test('admits so many of 100 at once, and another for each that ends', async () => {
    const { limits } = start({ concurrent: 7 });
    const admissions = await Promise.all(Array.from({ length: 100 }, async (_, index) => (await new Promise((done) => setTimeout(done, index % 3)), limits.admit())));
    const leases = admissions.filter(isAdmitted).map(leaseOf);
    expect(leases).toHaveLength(7);
    expect(limits.admit()).toMatchObject({ refusal: { status: 429, code: 'limit_reached', rule: 'concurrent', retryAfterSeconds: 1 } });
    leases[0]?.settle(10, 0);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
  });

  test('a lease gives its place back once, however often it is settled', () => {
    const { limits } = start({ concurrent: 1 });
    const lease = leaseOf(limits.admit());
    expect([lease.settle(5, 1), lease.settle(7, 1), lease.settle(undefined, 1)]).toEqual([5, 5, 5]);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
  });

  test('a look at it counts for nothing', () => {
    const { limits } = start({ concurrent: 1, requestsPerMinute: 1 });
    for (let look = 0; look < 10; look++) expect(limits.refusals()).toEqual([]);
    expect(isAdmitted(limits.admit())).toBe(true);
    expect(limits.refusals()).not.toEqual([]);
  });
});

describe('requests_per_minute', () => {
  test('admits so many of 100 at once', () => {
    const { limits } = start({ requestsPerMinute: 30 });
    expect(Array.from({ length: 100 }, () => limits.admit()).filter(isAdmitted)).toHaveLength(30);
  });

  test('the window slides: each place is free again a minute after it was taken', () => {
    const { limits, clock } = start({ requestsPerMinute: 2 });
    expect(isAdmitted(limits.admit())).toBe(true);
    clock.pass(40_000);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
    clock.pass(19_999);
    expect(limits.admit()).toMatchObject({ refusal: { rule: 'requests_per_minute', retryAfterSeconds: 1 } });
    clock.pass(1);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
    expect(limits.admit()).toMatchObject({ refusal: { retryAfterSeconds: 40 } });
  });

  test('what is refused counts for nothing', () => {
    const { limits, clock } = start({ requestsPerMinute: 1 });
    limits.admit();
    for (let second = 0; second < 59; second++) {
      clock.pass(1_000);
      expect(isAdmitted(limits.admit())).toBe(false);
    }
    clock.pass(1_000);
    expect(isAdmitted(limits.admit())).toBe(true);
  });

  test('the wall clock does not matter', () => {
    const { limits, clock } = start({ requestsPerMinute: 1 });
    limits.admit();
    clock.wall += 10 * minuteMs;
    expect(isAdmitted(limits.admit())).toBe(false);
    clock.wall -= 20 * minuteMs;
    clock.steady += minuteMs;
    expect(isAdmitted(limits.admit())).toBe(true);
  });

  test(`never more in any 60 seconds, and never fewer than it could, seed ${seed}`, () => {
    const random = new Random(seed);
    for (let round = 0; round < 50; round++) {
      const most = random.whole(1, 20);
      const { limits, clock } = start({ requestsPerMinute: most });
      const admitted: number[] = [];
      for (let request = 0; request < 400; request++) {
        clock.pass(random.chance(0.3) ? 0 : random.whole(1, random.pick([10, 2_000, 20_000])));
        const inWindow = admitted.filter((at) => at > clock.steady - minuteMs).length;
        const isIn = isAdmitted(limits.admit());
        expect(isIn).toBe(inWindow < most);
        if (isIn) admitted.push(clock.steady);
      }
    }
  });
});

describe('tokens_per_day', () => {
  test('admits while the total is below; what is running may overshoot', () => {
    const { limits } = start({ tokensPerDay: 1_000 });
    const [first, second] = [leaseOf(limits.admit()), leaseOf(limits.admit())];
    first.settle(999, 0);
    const third = leaseOf(limits.admit());
    second.settle(1, 0);
    const refusal = { status: 400, isFinal: true, code: 'limit_reached', rule: 'tokens_per_day', message: 'The policy (tokens_per_day) allows 1000 a day (UTC), and they are used up until 2027-01-16T00:00Z.' };
    expect(limits.admit()).toEqual({ refusal });
    third.settle(5_000, 0);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test('begins anew at midnight UTC', () => {
    const { limits, clock } = start({ tokensPerDay: 10 });
    leaseOf(limits.admit()).settle(10, 0);
    clock.pass(dayMs / 2 - minuteMs - 1);
    expect(limits.admit()).toMatchObject({ refusal: { status: 400, isFinal: true } });
    clock.pass(1);
    expect(limits.admit()).toMatchObject({ refusal: { status: 429, retryAfterSeconds: 60 } });
    clock.pass(minuteMs - 1);
    expect(limits.admit()).toMatchObject({ refusal: { status: 429, retryAfterSeconds: 1 } });
    clock.pass(1);
    expect(isAdmitted(limits.admit())).toBe(true);
  });

  test('charges the day on which an answer ends', () => {
    const { limits, clock } = start({ tokensPerDay: 10 });
    const lease = leaseOf(limits.admit());
    clock.pass(dayMs);
    lease.settle(10, 0);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test('a clock that is set back over midnight gives nothing a second time', () => {
    const { limits, clock } = start({ tokensPerDay: 10 });
    clock.wall = noon + dayMs / 2;
    leaseOf(limits.admit()).settle(10, 0);
    clock.wall -= 5_000;
    expect(isAdmitted(limits.admit())).toBe(false);
    clock.wall += 10_000;
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test.each([undefined, -1, 1.5, Number.NaN, Infinity, 2 ** 60])('charges the estimate where the usage is %s', (usage) => {
    const { limits } = start({ tokensPerDay: 100 });
    expect(leaseOf(limits.admit()).settle(usage, 100)).toBe(100);
    expect(isAdmitted(limits.admit())).toBe(false);
  });
});

describe('tokens_total', () => {
  test('is used up for good', () => {
    const { limits, clock } = start({ tokensTotal: 10 });
    leaseOf(limits.admit()).settle(10, 0);
    clock.pass(400 * dayMs);
    expect(limits.admit()).toMatchObject({ refusal: { status: 400, isFinal: true, code: 'limit_reached', rule: 'tokens_total' } });
  });

  test('restores exchanges of any age, and what was charged before them', () => {
    const { limits } = start({ tokensTotal: 100 });
    limits.restore([{ startedAtMs: -Infinity, endedAtMs: -Infinity, tokens: 49 }, { startedAtMs: 0, endedAtMs: 0, tokens: 30 }, { startedAtMs: noon, endedAtMs: noon, tokens: 20 }]);
    expect(limits.tokensInAll).toBe(99);
    leaseOf(limits.admit()).settle(1, 0);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test('of several limits each is named, the longest wait first', () => {
    const { limits } = start({ tokensTotal: 1, tokensPerDay: 1, requestsPerMinute: 1, concurrent: 1 });
    const lease = leaseOf(limits.admit());
    expect(limits.refusals().map(({ rule }) => rule)).toEqual(['requests_per_minute', 'concurrent']);
    lease.settle(1, 0);
    expect(limits.refusals().map(({ rule }) => rule)).toEqual(['tokens_total', 'tokens_per_day', 'requests_per_minute']);
  });
});

describe('the estimate for an answer without usage', () => {
  const answered = { bytesUp: 4, bytesDown: 0, durationMs: 0, upstreamStatus: 200 };
  test.each([
    [answered, 4],
    [{ ...answered, bytesUp: 55_000 }, 55_000],
    [{ ...answered, bytesDown: 1, durationMs: 1 }, 4 + 2],
    [{ ...answered, bytesDown: 640_000, durationMs: 2_000 }, 4 + 10_000],
    [{ ...answered, bytesDown: 64_000, durationMs: 30_000 }, 4 + 60_000],
    [{ ...answered, durationMs: 3_600_000 }, 4 + 128_000],
    [{ ...answered, bytesDown: 64 * 200_000, durationMs: 3_600_000 }, 4 + 200_000],
    [{ ...answered, bytesUp: 16 * 1024 * 1024 }, 1_050_000],
    [{ ...answered, upstreamStatus: undefined }, 4],
    [{ ...answered, upstreamStatus: 399 }, 4],
    [{ ...answered, upstreamStatus: 400, durationMs: 1_000 }, 0],
    [{ ...answered, upstreamStatus: 503 }, 0],
    [{ ...answered, bytesUp: 0, durationMs: 30_000, upstreamStatus: undefined }, 0],
  ])('%j: %i', (facts, tokens) => {
    expect(estimateTokens(facts)).toBe(tokens);
  });
});

describe('after a restart', () => {
  const past = (startedAgoMs: number, tokens: number, tookMs = 0): { startedAtMs: number; endedAtMs: number; tokens: number } => ({
    startedAtMs: noon - startedAgoMs,
    endedAtMs: noon - startedAgoMs + tookMs,
    tokens,
  });

  test('the tokens of the day count, those of other days do not', () => {
    const { limits } = start({ tokensPerDay: 100 });
    limits.restore([past(dayMs, 500), past(13 * 3_600_000, 500), past(3_600_000, 60), past(10, 39), past(13 * 3_600_000, 0, 2 * 3_600_000)]);
    leaseOf(limits.admit()).settle(1, 0);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test('the requests of the last minute count, in whatever order they come', () => {
    const { limits, clock } = start({ requestsPerMinute: 4 });
    limits.restore([past(1_000, 0), past(59_000, 0), past(60_000, 0), past(30_000, 0)]);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
    clock.pass(1_000);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
    clock.pass(29_000);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
  });

  test('with a lower limit than before, the newest count', () => {
    const { limits, clock } = start({ requestsPerMinute: 1 });
    limits.restore([past(50_000, 0), past(10_000, 0), past(40_000, 0)]);
    clock.pass(49_999);
    expect(isAdmitted(limits.admit())).toBe(false);
    clock.pass(1);
    expect(isAdmitted(limits.admit())).toBe(true);
  });

  test('records from the future, and senseless ones, do no harm', () => {
    const { limits, clock } = start({ requestsPerMinute: 1, tokensPerDay: 10 });
    limits.restore([past(-3_600_000, 5), past(0, -100), past(0, Number.NaN)]);
    expect(isAdmitted(limits.admit())).toBe(false);
    clock.pass(minuteMs);
    leaseOf(limits.admit()).settle(5, 0);
    clock.pass(minuteMs);
    expect(limits.admit()).toMatchObject({ refusal: { rule: 'tokens_per_day' } });
  });
});

test('without settings everything is admitted', () => {
  const { limits } = start({});
  expect(Array.from({ length: 1_000 }, () => limits.admit()).every(isAdmitted)).toBe(true);
});

test('the clock of the system tells the time in milliseconds, and how long things take', () => {
  expect(Math.abs(systemClock.wallMs() - Date.now())).toBeLessThan(1_000);
  const before = systemClock.steadyMs();
  expect(systemClock.steadyMs()).toBeGreaterThanOrEqual(before);
});
