import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildCopy } from '../support/build-copy.ts';
import { launch, startDaemon } from '../support/daemon.ts';
import { expectNoPieceOf } from '../support/messages.ts';

const secret = 'what-a-message-of-a-defect-could-quote';

/** A copy of the build with a defect where the start is almost done. Returns its launcher. */
function buildThat(defect: string): string {
  const folder = buildCopy();
  const file = join(folder, 'dist', 'daemon.js');
  const program = readFileSync(file, 'utf8');
  const place = 'pool.keepReady();';
  expect(program).toContain(place);
  writeFileSync(file, program.replace(place, `${place} ${defect}`));
  return join(folder, 'src', 'launcher.sh');
}

const defects: Record<string, readonly [defect: string, said: string]> = {
  'an error': [`throw new TypeError('${secret}');`, 'TypeError'],
  'an error of the system': [`throw Object.assign(new Error('${secret}'), { code: 'ENOENT', path: '${secret}' });`, 'Error (ENOENT)'],
  'an error outside the start': [`setImmediate(() => { throw new RangeError('${secret}'); });`, 'RangeError'],
  'a rejection that nobody awaits': [`Promise.reject(new RangeError('${secret}'));`, 'RangeError'],
  'no error at all': [`throw '${secret}';`, 'unknown'],
};

test.for(Object.entries(defects))('a defect is told by its name, never by its message, and where to report it: %s', async ([, [defect, said]]) => {
  const running = launch({ launcher: buildThat(defect) });
  const exit = await running.waitForExit();
  expect(exit.code).toBe(1);
  expect(exit.stderr).toContain(`\nresponses-api-proxy: internal error: ${said}\nhint: this is a defect; please report it`);
  expectNoPieceOf(secret, exit.stderr);
  expect(exit.stdout).toBe('');
});

test('what is written to console.error or process.stderr is dropped, and does no harm', async () => {
  const launcher = buildThat(`console.error('${secret}'); console.warn('${secret}'); process.stderr.write('${secret}', () => console.log('went on'));`);
  const daemon = await startDaemon({ launcher });
  await expect.poll(() => daemon.stdout).toBe('went on\n');
  expectNoPieceOf(secret, (await daemon.stop()).stderr);
});
