import { spawnSync } from 'node:child_process';
import { accessSync, constants, copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs, skipUnless } from '../support/skip.ts';

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

test('it finds its tools where NixOS and Guix keep them', async (context) => {
  const namespaces = ['unshare', '--user', '--map-root-user', '--mount'];
  skipUnless(context, spawnSync(namespaces[0] ?? '', [...namespaces.slice(1), 'true']).status === 0, 'needs the right to make user and mount namespaces');
  const folder = scratchFolder();
  for (const name of ['bin', 'tools', 'node']) mkdirSync(join(folder, name));
  const find = async (name: string): Promise<string> => realpathSync((await runTool('sh', ['-c', `command -v ${name}`])).stdout.trim());
  for (const name of ['sh', 'env']) copyFileSync(await find(name), join(folder, 'bin', name));
  for (const name of ['readlink', 'uname']) copyFileSync(await find(name), join(folder, 'tools', name));
  copyFileSync(await find('mount'), join(folder, 'mount')); // hidden by the first of the two below, where they are one folder
  writeFileSync(join(folder, 'node', 'node'), '');
  for (const path of ['sw', 'profile']) {
    const commands = `mount -t tmpfs none /run && mkdir -p /run/current-system/${path}/bin && mount --bind ${folder}/tools /run/current-system/${path}/bin
      mount --bind '${process.execPath}' ${folder}/node/node && for hidden in /usr/bin /bin; do ${folder}/mount --bind ${folder}/bin $hidden; done; PATH=${folder}/node exec "$@"`;
    const daemon = await startDaemon({ prefix: [...namespaces, 'sh', '-c', commands, 'sh'] });
    expect((await ask(daemon.port, { method: 'GET' })).status).toBe(403);
  }
});

describe('a node on PATH that is a program of another name', () => {
  async function startWith(name: string): Promise<{ folder: string; stderr: string }> {
    const folder = scratchFolder();
    copyFileSync('/bin/true', join(folder, name));
    if (name !== 'node') symlinkSync(name, join(folder, 'node'));
    return { folder, stderr: (await runToExit({ env: { PATH: `${folder}:/usr/bin:/bin` } })).stderr };
  }

  test.for(['volta-shim', 'mise', 'asdf'])('%s is named, with what to do', async (name) => {
    const { folder, stderr } = await startWith(name);
    expect(stderr).toMatch(new RegExp(`^responses-api-proxy: ${folder}/node is ${name}: .+\\nhint: .+real node.+\\n`));
  });

  test.for(['node', 'nodejs', 'node-22', 'node20'])('but %s is one of its own names', async (name) => {
    expect((await startWith(name)).stderr).toBe('');
  });
});

test('where there is no /proc as Linux has it, it says so and exits 1', async (context) => {
  needs(context, 'root', 'command unshare');
  const prefix = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh'];
  expect(refusalOf(await runToExit({ prefix }), 1)).toContain('Linux');
});
