import { describe, expect, test } from 'vitest';
import { besiege, type Siege } from '../support/custody-load.ts';
import { denying, noLocking, noMemfdSecret } from '../support/deny.ts';
import { outsideLockedMemory, type Find } from '../support/memory.ts';
import { lockedAreasOf, mappingsOf, statusOf } from '../support/process.ts';
import { needs } from '../support/skip.ts';

const load: Siege['load'] = { requests: 600 };

/** Everything of the daemon's that is ever locked, together, in KiB. */
const lockedKiB = 64;

describe('on a kernel without memfd_secret', () => {
  test('the key is in the locked area and nowhere else, during and after load', async (context) => {
    needs(context, 'root', 'command cc');
    const { daemon, scans } = await besiege({ load, upstream: { freshShare: 0.3 }, daemon: { prefix: await denying(noMemfdSecret) } });
    for (const { found } of scans) {
      // The control: this is what root can see of it here.
      expect(found.filter(({ whole }) => whole).length).toBeGreaterThan(0);
      expect(outsideLockedMemory(daemon.pid, found)).toEqual([]);
    }
  });

  test('the locked area is small, private, not dumped, not forked and stands between two inaccessible pages', async (context) => {
    needs(context, 'root', 'command cc');
    const { daemon } = await besiege({ load: { requests: 1, atOnce: 1 }, daemon: { prefix: await denying(noMemfdSecret) } });
    const areas = lockedAreasOf(daemon.pid);
    expect(areas.length).toBeGreaterThan(0);
    const all = mappingsOf(daemon.pid);
    for (const { from, to, permissions, flags } of areas) {
      expect(permissions).toBe('rw-p');
      expect(flags).toEqual(expect.arrayContaining(['dd', 'dc']));
      expect(all.find((mapping) => mapping.to === from)?.permissions).toBe('---p');
      expect(all.find((mapping) => mapping.from === to)?.permissions).toBe('---p');
    }
    expect(Number.parseInt(statusOf(daemon.pid, 'VmLck'), 10)).toBeLessThanOrEqual(lockedKiB);
  });
});

test('with memfd_secret the area is locked, not forked, unreadable for root and between two inaccessible pages', async (context) => {
  needs(context, 'root', 'command cc');
  const { daemon, scans } = await besiege({ load: { requests: 1, atOnce: 1 } });
  const areas = mappingsOf(daemon.pid).filter(({ name }) => name.includes('secretmem'));
  expect(areas.length).toBeGreaterThan(0);
  const all = mappingsOf(daemon.pid);
  for (const { from, to, flags } of areas) {
    expect(flags).toEqual(expect.arrayContaining(['lo', 'dc']));
    expect(all.find((mapping) => mapping.to === from)?.permissions).toBe('---p');
    expect(all.find((mapping) => mapping.from === to)?.permissions).toBe('---p');
  }
  const pages = areas.reduce((sum, { from, to }) => sum + Number(to - from) / 4096, 0);
  expect(scans.at(-1)?.unreadablePages).toBeGreaterThanOrEqual(pages);
  expect(Number.parseInt(statusOf(daemon.pid, 'VmLck'), 10)).toBeLessThanOrEqual(lockedKiB);
});

describe('with --unsafe-unlocked-memory', () => {
  /** Whether all of them lie within as much memory as the daemon would have locked. */
  function lieTogether(found: readonly Find[]): boolean {
    const offsets = found.map(({ offset }) => Number(offset));
    return Math.max(...offsets) - Math.min(...offsets) <= lockedKiB * 1024;
  }

  test.for<[string, () => Promise<Siege['daemon']>]>([
    ['where nothing can be locked', async () => ({ prefix: await denying(...noLocking) })],
  ])('%s: the key is in one place, during and after load', async ([, options], context) => {
    needs(context, 'root', 'command cc');
    const { scans } = await besiege({ load, upstream: { freshShare: 0.3 }, daemon: { args: ['--unsafe-unlocked-memory'], ...(await options()) } });
    for (const { found } of scans) {
      expect(found.length).toBeGreaterThan(0);
      expect(lieTogether(found), JSON.stringify(found)).toBe(true);
    }
  });
});
