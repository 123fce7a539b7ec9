import type { Denial } from '../../proxy/problem.ts';
import type { Ledger } from '../audit/audit-ledger.ts';

/** How much of the key's use is granted; undefined where there is no limit. */
export interface LimitSettings {
  /** Requests that are being answered at once. */
  readonly concurrent: number | undefined;
  /** Requests admitted in any 60 seconds. */
  readonly requestsPerMinute: number | undefined;
  /** Tokens in a UTC day: requests are admitted while the day's total is below. */
  readonly tokensPerDay: number | undefined;
  /** Tokens in all, of the ledger. */
  readonly tokensTotal: number | undefined;
}

export interface Clock {
  /** Milliseconds of the Unix epoch: what day it is. */
  wallMs(): number;
  /** Milliseconds since an arbitrary start, never backwards: how long something took. */
  steadyMs(): number;
}

export const systemClock: Clock = { wallMs: () => Date.now(), steadyMs: () => performance.now() };

const windowMs = 60_000;
const dayMs = 86_400_000;

/** Longest wait that a client is asked for. One that has to wait longer is told to stop instead. */
const maxRetrySeconds = 60;

/** No one can tell when a place becomes free, or what is reserved. */
const unknownRetrySeconds = 1;

/**
 * Decides by the ledger what may be admitted. A refused request counts for nothing. Decisions are synchronous: whoever
 * admits a request to the ledger in the same turn gets no more than is granted.
 */
export class Limits {
  readonly #settings: LimitSettings;
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  /** When the last requests were admitted, as many as a minute may have; the place at `#next` holds the oldest. */
  readonly #admittedAt: Float64Array;
  #next = 0;

  constructor(settings: LimitSettings, ledger: Ledger, clock: Clock = systemClock) {
    this.#settings = settings;
    this.#ledger = ledger;
    this.#clock = clock;
    this.#admittedAt = new Float64Array(settings.requestsPerMinute ?? 0).fill(-Infinity);
    const [now, steadyNow] = [clock.wallMs(), clock.steadyMs()];
    // A clock that was set back makes records of the future, which count as just now.
    const ages = ledger.recent.map((at) => Math.max(0, now - at)).filter((ageMs) => ageMs < windowMs);
    for (const ageMs of ages.sort((a, b) => b - a)) this.noteAdmission(steadyNow - ageMs);
  }

  /** Every limit that a request would be beyond now, the longest wait first. Counts for nothing. */
  refusals(): Denial[] {
    const { tokens, reserved } = this.#ledger;
    const { tokensTotal = Infinity, tokensPerDay = Infinity } = this.#settings;
    const today = tokensPerDay === Infinity ? 0 : this.#ledger.tokensAround(this.#clock.wallMs());
    const [inAll, aDay] = [`${tokensTotal} in all`, `${tokensPerDay} a day (UTC)`];
    const all = [
      tokens >= tokensTotal ? usedUp('tokens_total', `${inAll}, and they are used up`) : undefined,
      today >= tokensPerDay ? this.#outOfTokensToday(aDay) : undefined,
      this.#tooManyThisMinute(),
      this.#tooManyAtOnce(),
      tokens < tokensTotal && tokens + reserved >= tokensTotal ? held('tokens_total', inAll) : undefined,
      today < tokensPerDay && today + reserved >= tokensPerDay ? held('tokens_per_day', aDay) : undefined,
    ];
    return all.filter((refusal) => refusal !== undefined);
  }

  /** A request was admitted. @param at by the steady clock */
  noteAdmission(at: number = this.#clock.steadyMs()): void {
    if (this.#admittedAt.length === 0) return;
    this.#admittedAt[this.#next] = at;
    this.#next = (this.#next + 1) % this.#admittedAt.length;
  }

  #outOfTokensToday(what: string): Denial {
    const nowMs = this.#clock.wallMs();
    const midnightMs = (Math.floor(nowMs / dayMs) + 1) * dayMs;
    const waitSeconds = (midnightMs - nowMs) / 1000;
    if (waitSeconds <= maxRetrySeconds) return reached('tokens_per_day', what, waitSeconds);
    return usedUp('tokens_per_day', `${what}, and they are used up until ${minuteOf(midnightMs)}`);
  }

  /** A sliding window: of the last N admissions, the oldest must be a minute old. */
  #tooManyThisMinute(): Denial | undefined {
    const oldest = this.#admittedAt[this.#next];
    if (oldest === undefined) return undefined;
    const waitMs = oldest + windowMs - this.#clock.steadyMs();
    if (waitMs <= 0) return undefined;
    return reached('requests_per_minute', `${this.#admittedAt.length} a minute`, waitMs / 1000);
  }

  #tooManyAtOnce(): Denial | undefined {
    const { concurrent } = this.#settings;
    if (concurrent === undefined || this.#ledger.open.size < concurrent) return undefined;
    return reached('concurrent', `${concurrent} at once`, unknownRetrySeconds);
  }
}

/**
 * A request beyond a limit: 429 with Retry-After where there is room again within a minute, otherwise 400 without. Clients
 * obey a Retry-After of any length (the Codex CLI and openai-node sleep until midnight), retry most statuses (403 six times)
 * and hide the message of a 429; at a 400 each of them stops at once and shows it.
 */
function reached(rule: string, what: string, waitSeconds: number): Denial {
  const retryAfterSeconds = Math.min(maxRetrySeconds, Math.max(1, Math.ceil(waitSeconds)));
  const message = `The policy (${rule}) allows ${what}. Try again in ${retryAfterSeconds} s.`;
  return { status: 429, code: 'limit_reached', rule, message, retryAfterSeconds };
}

/** The tokens are not used yet: when other requests end, they may turn out to need fewer. */
function held(rule: string, what: string): Denial {
  return reached(rule, `${what}, and requests that are running may need the rest`, unknownRetrySeconds);
}

function usedUp(rule: string, what: string): Denial {
  return { status: 400, isFinal: true, code: 'limit_reached', rule, message: `The policy (${rule}) allows ${what}.` };
}

/** Such as `2026-01-31T00:00Z`. */
function minuteOf(wallMs: number): string {
  return new Date(wallMs).toISOString().replace(/:00\.000Z$/, 'Z');
}
