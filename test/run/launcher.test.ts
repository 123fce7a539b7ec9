import { accessSync, constants, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

test('the bin of the package is executable in the checkout', () => {
  const { bin } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { bin: Record<string, string> };
  accessSync(join(checkout, bin['responses-api-proxy'] ?? ''), constants.X_OK);
});

// From where it runs, by which links and names, is in custody/same-process.test.ts.

test('arguments pass as they are', async () => {
  const folder = join(scratchFolder(), 'a b  $HOME "c" * \\');
  mkdirSync(folder);
  const file = join(folder, "server 'info'.json");
  const daemon = await startDaemon({ args: ['--server-info', file] });
  await expect.poll(() => existsSync(file), { interval: 5 }).toBe(true);
  expect(readFileSync(file, 'utf8')).toBe(`{"port":${daemon.port},"pid":${daemon.pid}}\n`);
});

test('without a node on PATH it says so and exits 1', async () => {
  const folder = scratchFolder();
  // Everything the shell script itself needs, but no node.
  for (const name of ['sh', 'env', 'readlink', 'dirname', 'basename', 'uname', 'id', 'cat', 'sed', 'grep', 'awk', 'expr', 'test', 'printf', 'tr', 'cut']) {
    const { stdout } = await runTool('sh', ['-c', `command -v ${name}`]);
    if (stdout.startsWith('/')) symlinkSync(stdout.trim(), join(folder, name));
  }
  const exit = await runToExit({ env: { PATH: folder } });
  expect(refusalOf(exit, 1)).toMatch(/node/);
});

test('a folder or a plain file called node on PATH is passed over', async () => {
  const folder = scratchFolder();
  mkdirSync(join(folder, 'one', 'node'), { recursive: true });
  mkdirSync(join(folder, 'two'));
  writeFileSync(join(folder, 'two', 'node'), 'not executable', { mode: 0o644 });
  const daemon = await startDaemon({ env: { PATH: `${folder}/one:${folder}/two:${process.env['PATH'] ?? ''}` } });
  expect((await ask(daemon.port, { method: 'GET' })).status).toBe(403);
});

test('where there is no /proc as Linux has it, it says so and exits 1', async (context) => {
  needs(context, 'root', 'command unshare');
  const prefix = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh'];
  expect(refusalOf(await runToExit({ prefix }), 1)).toContain('Linux');
});
