import { expect } from 'vitest';
import type { RawResponse } from './raw-client.ts';

/** What is inside OpenAI's error envelope. */
export interface ErrorEnvelope {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
}

/** The error in a response of the daemon's own, after checking that it is exactly OpenAI's envelope, whole and declared as JSON. */
export function envelopeOf(response: RawResponse): ErrorEnvelope {
  expect(response.complete).toBe(true);
  expect(response.values('content-type')).toEqual([expect.stringMatching(/^application\/json\b/)]);
  const body = response.json();
  expect(body).toEqual({ error: { message: expect.any(String), type: expect.any(String), param: null, code: expect.any(String) } });
  return (body as { error: ErrorEnvelope }).error;
}
