import { describe, expect, test } from 'vitest';
import { Ledger } from '../../src/extras/audit/audit-ledger.ts';
import { type LimitSettings, Limits, systemClock } from '../../src/extras/policy/limits.ts';
import { estimateInput, estimateTokens } from '../../src/extras/usage/estimate.ts';
import type { Denial } from '../../src/proxy/problem.ts';
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

interface Lease {
  settle(charged: number): void;
}

type Admission = { readonly lease: Lease } | { readonly refusal: Denial };

/** Limits and their ledger, as each request uses them. */
class Budget {
  readonly ledger: Ledger;
  readonly #limits: Limits;
  readonly #clock: TestClock;
  #admitted = 0;

  constructor(settings: Partial<LimitSettings>, clock: TestClock, ledger: Ledger) {
    this.ledger = ledger;
    this.#clock = clock;
    this.#limits = new Limits({ concurrent: undefined, requestsPerMinute: undefined, tokensPerDay: undefined, tokensTotal: undefined, ...settings }, ledger, clock);
  }

  refusals(): Denial[] {
    return this.#limits.refusals();
  }

  admit(estimate = 0): Admission {
    const [refusal] = this.#limits.refusals();
    if (refusal !== undefined) return { refusal };
    const id = String(this.#admitted++);
    this.ledger.admit({ id, uid: undefined, model: undefined, serviceTier: undefined, reasoningMode: undefined, time: this.#clock.wall, estimate });
    this.#limits.noteAdmission();
    return { lease: { settle: (charged) => this.ledger.end({ id, time: this.#clock.wall, charged }) } };
  }
}

function start(settings: Partial<LimitSettings>, ledger = new Ledger()): { limits: Budget; clock: TestClock } {
  const clock = new TestClock();
  return { limits: new Budget(settings, clock, ledger), clock };
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
    leases[0]?.settle(10);
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
    first.settle(999);
    const third = leaseOf(limits.admit());
    second.settle(1);
    const refusal = { status: 400, isFinal: true, code: 'limit_reached', rule: 'tokens_per_day', message: 'The policy (tokens_per_day) allows 1000 a day (UTC), and they are used up until 2027-01-16T00:00Z.' };
    expect(limits.admit()).toEqual({ refusal });
    third.settle(5_000);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test('begins anew at midnight UTC', () => {
    const { limits, clock } = start({ tokensPerDay: 10 });
    leaseOf(limits.admit()).settle(10);
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
    lease.settle(10);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test('a clock that is set back over midnight gives nothing a second time', () => {
    const { limits, clock } = start({ tokensPerDay: 10 });
    clock.wall = noon + dayMs / 2;
    leaseOf(limits.admit()).settle(10);
    clock.wall -= 5_000;
    expect(isAdmitted(limits.admit())).toBe(false);
    clock.wall += 10_000;
    expect(isAdmitted(limits.admit())).toBe(false);
  });
});

describe('tokens_total', () => {
  test('is used up for good', () => {
    const { limits, clock } = start({ tokensTotal: 10 });
    leaseOf(limits.admit()).settle(10);
    clock.pass(400 * dayMs);
    expect(limits.admit()).toMatchObject({ refusal: { status: 400, isFinal: true, code: 'limit_reached', rule: 'tokens_total' } });
  });

  test('goes on from what the ledger has, of any age', () => {
    const ledger = new Ledger();
    ledger.addSums({ time: '', tokens: 49, days: { '2020-01-01': 49 } });
    for (const [id, time, charged] of [['a', 0, 30], ['b', noon, 20]] as const) ledger.end({ id, time, charged });
    const { limits } = start({ tokensTotal: 100 }, ledger);
    expect(ledger.tokens).toBe(99);
    leaseOf(limits.admit()).settle(1);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  test('of several limits each is named, the longest wait first', () => {
    const { limits } = start({ tokensTotal: 1, tokensPerDay: 1, requestsPerMinute: 1, concurrent: 1 });
    const lease = leaseOf(limits.admit());
    expect(limits.refusals().map(({ rule }) => rule)).toEqual(['requests_per_minute', 'concurrent']);
    lease.settle(1);
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

describe('what is reserved', () => {
  const held = (rule: string): object => ({ refusal: { status: 429, code: 'limit_reached', rule, retryAfterSeconds: 1 } });

  test.each([['tokens_total', { tokensTotal: 100 }], ['tokens_per_day', { tokensPerDay: 100 }]] as const)('%s: what others have reserved is in the way, until it turns out to be less', (rule, settings) => {
    const { limits } = start(settings);
    const first = leaseOf(limits.admit(60));
    const second = leaseOf(limits.admit(60));
    expect(limits.admit(1)).toMatchObject(held(rule));
    first.settle(10);
    const third = leaseOf(limits.admit(1));
    second.settle(89);
    expect(limits.admit(1)).toMatchObject(held(rule));
    third.settle(1);
    expect(limits.admit(1)).toMatchObject({ refusal: { status: 400, rule } });
  });

  test('one\'s own estimate is never in the way', () => {
    const { limits } = start({ tokensTotal: 100 });
    expect(isAdmitted(limits.admit(1_000_000))).toBe(true);
  });

  test('of 200 at once, a budget of 10 tokens admits one', () => {
    const { limits } = start({ tokensTotal: 10 });
    expect(Array.from({ length: 200 }, () => limits.admit(50)).filter(isAdmitted)).toHaveLength(1);
  });

  test('is the input, at most a context; all of that where the length is not known', () => {
    expect([0, 55_000, 2 ** 40, Infinity].map(estimateInput)).toEqual([0, 55_000, 1_050_000, 1_050_000]);
  });
});

describe('after a restart', () => {
  /** A ledger with what was charged, so long ago. */
  const past = (...charges: ReadonlyArray<readonly [agoMs: number, tokens: number]>): Ledger => {
    const ledger = new Ledger();
    for (const [index, [agoMs, charged]] of charges.entries()) ledger.end({ id: String(index), time: noon - agoMs, charged });
    return ledger;
  };

  test('the tokens of the day count, those of other days do not', () => {
    const { limits } = start({ tokensPerDay: 100 }, past([dayMs, 500], [13 * 3_600_000, 500], [3_600_000, 60], [10, 39], [dayMs * 300, 500]));
    leaseOf(limits.admit()).settle(1);
    expect(isAdmitted(limits.admit())).toBe(false);
  });

  /** A ledger with admissions in the last minute, so long ago. */
  const recent = (...agoMs: readonly number[]): Ledger => {
    const ledger = new Ledger();
    ledger.recent.push(...agoMs.map((ago) => noon - ago));
    return ledger;
  };

  test('the requests of the last minute count, in whatever order they come', () => {
    const { limits, clock } = start({ requestsPerMinute: 4 }, recent(1_000, 59_000, 60_000, 30_000));
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
    clock.pass(1_000);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
    clock.pass(29_000);
    expect([limits.admit(), limits.admit()].map(isAdmitted)).toEqual([true, false]);
  });

  test('with a lower limit than before, the newest count', () => {
    const { limits, clock } = start({ requestsPerMinute: 1 }, recent(50_000, 10_000, 40_000));
    clock.pass(49_999);
    expect(isAdmitted(limits.admit())).toBe(false);
    clock.pass(1);
    expect(isAdmitted(limits.admit())).toBe(true);
  });

  test('requests from the future count as just now', () => {
    const { limits, clock } = start({ requestsPerMinute: 1 }, recent(-3_600_000, Number.NaN));
    expect(isAdmitted(limits.admit())).toBe(false);
    clock.pass(minuteMs);
    expect(isAdmitted(limits.admit())).toBe(true);
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
