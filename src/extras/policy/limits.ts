import type { Denial } from '../../proxy/problem.ts';

/** How much of the key's use is granted; undefined where there is no limit. */
export interface LimitSettings {
  /** Requests that are being answered at once. */
  readonly concurrent: number | undefined;
  /** Requests admitted in any 60 seconds. */
  readonly requestsPerMinute: number | undefined;
  /** Tokens in a UTC day: requests are admitted while the day's total is below. */
  readonly tokensPerDay: number | undefined;
  /** Tokens in all, as far back as `restore` is told. */
  readonly tokensTotal: number | undefined;
}

/** The right to one exchange. Its holder settles it once the exchange has ended, however it did. */
export interface Lease {
  /**
   * Gives the place back and charges the tokens; only the first call does anything.
   *
   * @param totalTokens as the upstream reports; undefined where it did not
   * @param estimate charged in that case, see `estimateTokens`
   * @returns what was charged
   */
  settle(totalTokens: number | undefined, estimate: number): number;
}

export type Admission = { lease: Lease } | { refusal: Denial };

/** An exchange of an earlier run, from its record. In milliseconds of the Unix epoch. */
export interface PastExchange {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** What it was charged. */
  readonly tokens: number;
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

/** No one can tell when a place becomes free. */
const concurrentRetrySeconds = 1;

/**
 * Counts what is admitted. Decisions are synchronous, so any number of simultaneous requests get no more than is granted.
 * A refused request counts for nothing.
 */
export class Limits {
  readonly #settings: LimitSettings;
  readonly #clock: Clock;
  #running = 0;
  /** When the last requests were admitted, as many as a minute may have; the place at `#next` holds the oldest. */
  readonly #admittedAt: Float64Array;
  #next = 0;
  #day: number;
  #tokensOfDay = 0;
  #tokensInAll = 0;

  constructor(settings: LimitSettings, clock: Clock = systemClock) {
    this.#settings = settings;
    this.#clock = clock;
    this.#admittedAt = new Float64Array(settings.requestsPerMinute ?? 0).fill(-Infinity);
    this.#day = dayOf(clock.wallMs());
  }

  /** Tokens charged since the beginning, with those that were restored. */
  get tokensInAll(): number {
    return this.#tokensInAll;
  }

  /** Continues from earlier runs. To be called before anything is admitted; the order of the exchanges does not matter. */
  restore(exchanges: Iterable<PastExchange>): void {
    const now = this.#clock.wallMs();
    const starts: number[] = [];
    for (const { startedAtMs, endedAtMs, tokens } of exchanges) {
      if (isCount(tokens)) {
        this.#tokensInAll += tokens;
        if (dayOf(endedAtMs) === this.#day) this.#tokensOfDay += tokens;
      }
      // A clock that was set back makes records of the future, which count as just now.
      const ageMs = Math.max(0, now - startedAtMs);
      if (ageMs < windowMs && this.#admittedAt.length > 0) starts.push(this.#clock.steadyMs() - ageMs);
    }
    starts.sort((a, b) => a - b);
    for (const start of starts) this.#noteAdmission(start);
  }

  /** Every limit that a request would be beyond now, the longest wait first. Counts for nothing. */
  refusals(): Denial[] {
    const all = [this.#outOfTokens(), this.#outOfTokensToday(), this.#tooManyThisMinute(), this.#tooManyAtOnce()];
    return all.filter((refusal) => refusal !== undefined);
  }

  /** Admits a request, or says why not. */
  admit(): Admission {
    const [refusal] = this.refusals();
    if (refusal !== undefined) return { refusal };
    this.#running++;
    this.#noteAdmission(this.#clock.steadyMs());
    let charged: number | undefined;
    return {
      lease: {
        settle: (totalTokens, estimate) => {
          if (charged !== undefined) return charged;
          this.#running--;
          charged = isCount(totalTokens) ? totalTokens : estimate;
          this.#turnDay();
          this.#tokensOfDay += charged;
          this.#tokensInAll += charged;
          return charged;
        },
      },
    };
  }

  #noteAdmission(at: number): void {
    if (this.#admittedAt.length === 0) return;
    this.#admittedAt[this.#next] = at;
    this.#next = (this.#next + 1) % this.#admittedAt.length;
  }

  #outOfTokens(): Denial | undefined {
    const { tokensTotal } = this.#settings;
    if (tokensTotal === undefined || this.#tokensInAll < tokensTotal) return undefined;
    return usedUp('tokens_total', `${tokensTotal} in all, and they are used up`);
  }

  #outOfTokensToday(): Denial | undefined {
    const { tokensPerDay } = this.#settings;
    if (tokensPerDay === undefined) return undefined;
    this.#turnDay();
    if (this.#tokensOfDay < tokensPerDay) return undefined;
    const midnightMs = (this.#day + 1) * dayMs;
    const what = `${tokensPerDay} a day (UTC)`;
    const waitSeconds = (midnightMs - this.#clock.wallMs()) / 1000;
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
    if (concurrent === undefined || this.#running < concurrent) return undefined;
    return reached('concurrent', `${concurrent} at once`, concurrentRetrySeconds);
  }

  /** A clock that is set back a little, around midnight, does not give a day's tokens a second time. */
  #turnDay(): void {
    const today = dayOf(this.#clock.wallMs());
    if (today === this.#day || today === this.#day - 1) return;
    this.#day = today;
    this.#tokensOfDay = 0;
  }
}

/** The largest context of a published model, in tokens (gpt-4.1 has 1,047,576): no request has more input. */
const maxInputTokens = 1_050_000;

/** Most tokens that a published model answers with, see the models' "max output tokens". */
const maxOutputTokens = 128_000;

/**
 * The tokenizers of the API (o200k_base) make at most one token of a byte of UTF-8. Measured, in bytes of JSON for a token:
 * code and prose 3.8, a request of Codex 2.9, base64 as text 1.5, digits and rare scripts 1.0; and for a document that is
 * compressed (deflate, then base64) and read as its text: prose 2.1, code 1.6. Only a text that repeats itself takes less
 * (0.05), so a file that is made for it can hold more than it is charged.
 */
const bytesPerInputToken = 1;

/** Streams wrap each token into an event of 200 bytes and more, but repeat texts at their end. */
const bytesPerOutputToken = 64;

/** The fastest models make a good 1,000. They reason in silence: the bytes alone would not tell. */
const outputTokensPerSecond = 2_000;

const firstErrorStatus = 400;

/** What is known of an exchange that has ended. */
export interface Exchanged {
  /** Bytes of the request's body that went up, and of the answer's that came down. */
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly durationMs: number;
  /** Undefined where the upstream did not answer. */
  readonly upstreamStatus: number | undefined;
}

/**
 * What an exchange is charged if its usage is unknown, because the client left or the upstream broke off. It is bounded from
 * above, so that leaving early never pays: a token for each byte of request, at most a model's context; and a token for 64
 * bytes of answer or 2,000 for each second, whichever is more, at most a model's longest answer or what came down. Not known
 * is input that a request only names (a stored answer, a file, a URL). Nothing where nothing went up, or where the upstream
 * answered with an error.
 */
export function estimateTokens({ bytesUp, bytesDown, durationMs, upstreamStatus }: Exchanged): number {
  if (bytesUp === 0 || (upstreamStatus !== undefined && upstreamStatus >= firstErrorStatus)) return 0;
  const input = Math.min(maxInputTokens, Math.ceil(bytesUp / bytesPerInputToken));
  const byTime = Math.min(maxOutputTokens, Math.ceil((durationMs / 1000) * outputTokensPerSecond));
  return input + Math.max(Math.ceil(bytesDown / bytesPerOutputToken), byTime);
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

function usedUp(rule: string, what: string): Denial {
  return { status: 400, isFinal: true, code: 'limit_reached', rule, message: `The policy (${rule}) allows ${what}.` };
}

/** Such as `2026-01-31T00:00Z`. */
function minuteOf(wallMs: number): string {
  return new Date(wallMs).toISOString().replace(/:00\.000Z$/, 'Z');
}

function dayOf(wallMs: number): number {
  return Math.floor(wallMs / dayMs);
}

function isCount(tokens: number | undefined): tokens is number {
  return Number.isSafeInteger(tokens) && (tokens as number) >= 0;
}
