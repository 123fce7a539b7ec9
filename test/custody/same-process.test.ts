import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync, readFileSync, cpSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { launcher } from '../support/daemon-paths.ts';
import { launch, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { statusOf } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream } from '../support/upstream.ts';

/** The package that the launcher belongs to. */
const root = dirname(dirname(launcher));

/** Starts it like this and checks that the very process that was started serves, with the key from its stdin. */
async function expectSameProcess(options: DaemonOptions): Promise<void> {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ ...options, args: upstream.args });
  const command = readFileSync(`/proc/${daemon.pid}/cmdline`, 'utf8').split('\0');
  expect(basename(command[0] ?? '')).toBe('node');
  expect(command).toContain(`${root}/dist/main.js`);
  expect(statusOf(daemon.pid, 'PPid')).toBe(String(process.pid));
  const [response, request] = await Promise.all([ask(daemon.port), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  expect(request.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
}

describe('the process that was started is the daemon, and its stdin is the one it was given', () => {
  test('by the launcher itself', () => expectSameProcess({}));

  test('by sh and the launcher', () => expectSameProcess({ prefix: ['sh'] }));

  test('by npm\'s global links: a relative link in bin to a link in lib to the checkout', async () => {
    const prefix = scratchFolder();
    mkdirSync(join(prefix, 'bin'));
    mkdirSync(join(prefix, 'lib', 'node_modules'), { recursive: true });
    symlinkSync(root, join(prefix, 'lib', 'node_modules', 'responses-api-proxy'));
    symlinkSync('../lib/node_modules/responses-api-proxy/src/launcher.sh', join(prefix, 'bin', 'responses-api-proxy'));
    await expectSameProcess({ launcher: join(prefix, 'bin', 'responses-api-proxy'), cwd: '/' });
  });

  test('by a chain of relative and absolute links through folders with odd names', async () => {
    const folder = scratchFolder();
    mkdirSync(join(folder, 'a b'));
    mkdirSync(join(folder, '-c*'));
    symlinkSync(launcher, join(folder, 'a b', '1'));
    symlinkSync('../a b/1', join(folder, '-c*', '2'));
    symlinkSync(join(folder, '-c*', '2'), join(folder, '3'));
    await expectSameProcess({ launcher: join(folder, '3'), cwd: join(folder, '-c*') });
  });

  test('by a relative path, and by a bare name on PATH', async () => {
    const folder = scratchFolder();
    symlinkSync(launcher, join(folder, 'responses-api-proxy'));
    await expectSameProcess({ launcher: './responses-api-proxy', cwd: folder });
    await expectSameProcess({ prefix: ['sh', '-c', `PATH="${folder}:$PATH"; shift; exec responses-api-proxy "$@"`, 'sh'] });
  });
});

test('a link that leads nowhere, and a copy that stands alone, say so', async () => {
  const folder = scratchFolder();
  cpSync(realpathSync(launcher), join(folder, 'launcher.sh'));
  chmodSync(join(folder, 'launcher.sh'), 0o755);
  const exit = await launch({ launcher: join(folder, 'launcher.sh') }).waitForExit();
  expect(exit.code).toBe(1);
  expect(exit.stderr).toMatch(/^responses-api-proxy: .+\nhint: .+\n$/);
});

describe('the current folder has no say in what runs', () => {
  /** Programs that would be found first if the current folder were searched. Each leaves a trace when it runs, with what it could read. */
  function trap(): string {
    const folder = scratchFolder();
    for (const name of ['node', 'env', 'uname', 'readlink', 'dirname', 'basename', 'printf', 'sh', 'cat', 'sed', 'grep', 'id', 'command', 'test', 'read']) {
      writeFileSync(join(folder, name), `#!/bin/sh\n{ echo ${name}; } >> '${folder}/ran'\nexec /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin ${name} "$@"\n`, { mode: 0o755 });
    }
    return folder;
  }

  test('with empty and relative entries everywhere in PATH', async () => {
    const path = process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin';
    const value = `::.:bin:./bin:../x:${path}::`;
    const folder = trap();
    mkdirSync(join(folder, 'bin'));
    for (const name of ['node', 'env', 'uname', 'readlink']) cpSync(join(folder, name), join(folder, 'bin', name));
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: upstream.args, env: { PATH: value }, cwd: folder });
    expect((await ask(daemon.port)).status).toBe(200);
    expect(existsSync(join(folder, 'ran')) ? readFileSync(join(folder, 'ran'), 'utf8').trim().split('\n') : []).toEqual([]);
  });
});

test('no helper of the launcher gets to read the key from stdin', async () => {
  const folder = scratchFolder();
  // They come before the others on PATH, by the user's own wish, and read what they are given.
  for (const name of ['uname', 'readlink', 'env']) {
    writeFileSync(join(folder, name), `#!/bin/sh\nwc -c >> '${folder}/read'\nexec /usr/bin/env PATH=/usr/local/bin:/usr/bin:/bin ${name} "$@"\n`, { mode: 0o755 });
  }
  const path = process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin';
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args, env: { PATH: `${folder}:${path}` } });
  expect((await ask(daemon.port)).status).toBe(200);
  const counts = existsSync(join(folder, 'read')) ? readFileSync(join(folder, 'read'), 'utf8').trim().split(/\s+/) : [];
  expect(new Set(counts.filter((count) => count !== '0'))).toEqual(new Set());
});
