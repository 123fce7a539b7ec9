import { expect } from 'vitest';
import type { RawResponse } from './raw-client.ts';

/** The content of OpenAI's error envelope. */
export interface ErrorEnvelope {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
}

/** The error in one of the daemon's own responses, after checking that it is exactly OpenAI's envelope, complete and declared as JSON. */
export function envelopeOf(response: RawResponse): ErrorEnvelope {
  expect(response.complete).toBe(true);
  expect(response.values('content-type')).toEqual([expect.stringMatching(/^application\/json\b/)]);
  const body = response.json();
  expect(body).toEqual({ error: { message: expect.any(String), type: expect.any(String), param: null, code: expect.any(String) } });
  return (body as { error: ErrorEnvelope }).error;
}
