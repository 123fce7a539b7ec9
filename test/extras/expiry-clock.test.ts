import { expect, test } from 'vitest';
import { Expiry } from '../../src/extras/expiry.ts';

const year = 365 * 86_400_000;
const now = Date.UTC(2027, 0, 15, 12);

/** An expiry a year ahead, its clock, and what it did. */
function start(): { expiry: Expiry; clock: { wall: number }; did: string[] } {
  const clock = { wall: now };
  const did: string[] = [];
  const expiry = new Expiry(now + year, { wallMs: () => clock.wall, steadyMs: () => 0 });
  expiry.start({ endKey: () => did.push('wiped'), stop: () => did.push('stopped'), say: () => {} });
  return { expiry, clock, did };
}

test('a clock that is set forward ends the loan, without a request', async () => {
  const { clock, did } = start();
  clock.wall += year;
  await expect.poll(() => did).toEqual(['wiped']);
});

test('a request sees it at once', () => {
  const { expiry, clock, did } = start();
  clock.wall += year - 1;
  expect(expiry.denial).toBe(undefined);
  clock.wall += 1;
  expect(expiry.denial).toMatchObject({ code: 'loan_expired' });
  expect(did).toEqual(['wiped']);
});

test('a clock that is set back lends nothing again', () => {
  const { expiry, clock, did } = start();
  clock.wall += year;
  expect(expiry.denial).toMatchObject({ code: 'loan_expired' });
  clock.wall = now;
  expect(expiry.denial).toMatchObject({ code: 'loan_expired' });
  expect(did).toEqual(['wiped']);
});

test('a clock that is set back before it lends until the time that was said', () => {
  const { expiry, clock } = start();
  clock.wall -= year;
  expect(expiry.denial).toBe(undefined);
  clock.wall += 2 * year;
  expect(expiry.denial).toMatchObject({ code: 'loan_expired' });
});
