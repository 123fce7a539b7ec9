import { beforeAll, describe, expect, test } from 'vitest';
import { nobody, startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';

/** Possible faults, in the order in which they are judged. Each is one more fault of the same request. */
const faults = ['framing', 'host', 'browser', 'user', 'target', 'token'] as const;
type Fault = (typeof faults)[number];

const verdicts: Record<Fault, { status: number; code: string }> = {
  framing: { status: 400, code: 'bad_request' },
  host: { status: 403, code: 'host_not_allowed' },
  browser: { status: 403, code: 'browser_not_allowed' },
  user: { status: 403, code: 'user_not_allowed' },
  target: { status: 403, code: 'endpoint_not_allowed' },
  token: { status: 401, code: 'invalid_token' },
};

const token = randomBytes(32).toString('base64url');
let upstream: Upstream;
let forAll: Daemon;
let forOthers: Daemon;

beforeAll(async () => {
  upstream = await startUpstream();
  const file = join(scratchFolder(), 'token');
  writeFileSync(file, token, { mode: 0o600 });
  const args = [...upstream.args, '--http-shutdown', '--client-token-file', file];
  // The second one does not serve the user who runs the tests.
  const otherUid = process.getuid?.() === nobody.uid ? 0 : nobody.uid;
  [forAll, forOthers] = await Promise.all([startDaemon({ args }), startDaemon({ args: [...args, '--allow-user', String(otherUid)] })]);
});

const unknownCoding: HeaderLines = [['Transfer-Encoding', 'gzip, chunked']];

function sets(): (readonly Fault[])[] {
  return Array.from({ length: 2 ** faults.length - 1 }, (_, bits) => faults.filter((__, index) => ((bits + 1) >> index) & 1));
}

describe('of several faults the first one is reported', () => {
  test.for(sets())('%s', async (set) => {
    const daemon = set.includes('user') ? forOthers : forAll;
    const response = await ask(daemon.port, {
      host: set.includes('host') ? 'evil.example' : `127.0.0.1:${daemon.port}`,
      target: set.includes('target') ? '/v1/models' : '/v1/responses',
      headers: [
        ...(set.includes('token') ? [] : [['Authorization', `Bearer ${token}`] as const]),
        ...(set.includes('browser') ? [['Origin', 'http://evil.example'] as const] : []),
        ...(set.includes('framing') ? unknownCoding : []),
      ],
      body: set.includes('framing') ? undefined : '{}',
    });
    const [first] = set;
    if (first === undefined) expect.fail('a set of faults is empty');
    expect({ status: response.status, code: envelopeOf(response).code }).toEqual(verdicts[first]);
    expect(upstream.requests).toEqual([]);
  });
});

test('the order is the same for /shutdown', async () => {
  const wrong: readonly [Fault, Parameters<typeof ask>[1]][] = [
    ['framing', { headers: [['Transfer-Encoding', 'gzip'], ['Origin', 'null']], host: 'evil.example' }],
    ['host', { headers: [['Origin', 'null']], host: 'evil.example' }],
    ['browser', { headers: [['Origin', 'null']] }],
    ['token', {}],
  ];
  for (const [fault, request] of wrong) {
    const response = await ask(forAll.port, { method: 'GET', target: '/shutdown', ...request });
    expect({ status: response.status, code: envelopeOf(response).code }, fault).toEqual(verdicts[fault]);
  }
  const response = await ask(forOthers.port, { method: 'GET', target: '/shutdown', headers: [['Authorization', `Bearer ${token}`]] });
  expect(envelopeOf(response).code).toBe(verdicts.user.code);
  expect([forAll.exit, forOthers.exit]).toEqual([undefined, undefined]);
});
