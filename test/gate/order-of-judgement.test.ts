import { describe, expect, test } from 'vitest';
import { judged } from '../support/judged.ts';
import type { RawRequest } from '../support/raw-client.ts';

/** Possible faults, in the order in which they are judged, and what each is refused with. Each is one more fault of the same request. */
const verdicts = {
  framing: '400 bad_request',
  host: '403 host_not_allowed',
  browser: '403 browser_not_allowed',
  user: '403 user_not_allowed',
  target: '403 endpoint_not_allowed',
  token: '401 invalid_token',
} as const;
type Fault = keyof typeof verdicts;
const faults = Object.keys(verdicts) as Fault[];

const rules = { allowedUids: new Set([1]), token: Buffer.from('the-token') };

function sets(): (readonly Fault[])[] {
  return Array.from({ length: 2 ** faults.length - 1 }, (_, bits) => faults.filter((__, index) => ((bits + 1) >> index) & 1));
}

/** What becomes of `request` with these faults. */
function judgedWith(set: readonly Fault[], request: RawRequest): string {
  const given: RawRequest = {
    ...request,
    ...(set.includes('host') ? { host: 'evil.example' } : {}),
    ...(set.includes('target') ? { target: '/v1/models' } : {}),
    headers: [
      ...(set.includes('token') ? [] : [['Authorization', 'Bearer the-token'] as const]),
      ...(set.includes('browser') ? [['Origin', 'http://evil.example'] as const] : []),
      ...(set.includes('framing') ? [['Transfer-Encoding', 'gzip, chunked'] as const] : []),
    ],
  };
  return judged(given, rules, set.includes('user') ? 2 : 1);
}

describe.for<[served: string, request: RawRequest]>([
  ['forward', {}],
  ['shutdown', { method: 'GET', target: '/shutdown' }],
])('of several faults the first one is reported: %s', ([served, request]) => {
  test('without one it is served', () => {
    expect(judgedWith([], request)).toBe(served);
  });

  test.for(sets())('%s', (set) => {
    expect(judgedWith(set, request)).toBe(verdicts[set[0] ?? 'token']);
  });
});
