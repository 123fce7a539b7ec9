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
  const byTime = Math.min(maxOutputTokens, Math.ceil((durationMs / 1000) * outputTokensPerSecond));
  return estimateInput(bytesUp) + Math.max(Math.ceil(bytesDown / bytesPerOutputToken), byTime);
}

/** Most tokens that a request of so many bytes has as input; Infinity for a length that is not known. */
export function estimateInput(bytes: number): number {
  return Math.min(maxInputTokens, Math.ceil(bytes / bytesPerInputToken));
}
