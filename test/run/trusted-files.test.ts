import { chmodSync, chownSync, lchownSync, mkdirSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildCopy } from '../support/build-copy.ts';
import { launcher } from '../support/daemon-paths.ts';
import { nobody, runToExit, shell, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

const another = { uid: 12_345, gid: 12_345 } as const;
const root = { uid: 0, gid: 0 } as const;

interface Right {
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
}

function set(path: string, { mode, uid = process.getuid?.() ?? 0, gid = process.getgid?.() ?? 0 }: Right): string {
  chownSync(path, uid, gid);
  chmodSync(path, mode);
  return path;
}

/** What each flag reads. */
const flags: Record<string, string> = { '--client-token-file': 'a-token-of-the-daemon\n', '--policy': '{"models":["*"]}\n' };

/** FOLDER/inner/file, in folders and with rights of the test's choice. */
function fileIn(content: string, { outer = { mode: 0o755 }, inner = { mode: 0o755 }, file = { mode: 0o644 } }: { outer?: Right; inner?: Right; file?: Right }): { folder: string; inner: string; file: string } {
  const folder = join(scratchFolder(), 'outer');
  mkdirSync(join(folder, 'inner'), { recursive: true });
  const path = join(folder, 'inner', 'file');
  writeFileSync(path, content);
  return { file: set(path, file), inner: set(join(folder, 'inner'), inner), folder: set(folder, outer) };
}

async function refused(flag: string, file: string, culprit: string, options: DaemonOptions = {}): Promise<string> {
  const exit = await runToExit({ ...options, args: [flag, file] });
  const reason = refusalOf(exit, 1);
  expect(reason).toContain(`${flag} ${file}: ${culprit} can be changed by `);
  expect(exit.stderr).toMatch(new RegExp(`^hint: .*${culprit}$`, 'm'));
  expect(exit.stderr).not.toContain('a-token-of');
  return reason;
}

describe.for(Object.entries(flags))('the file of %s', ([flag, content]) => {
  test('is refused where others than its owner can write it', async () => {
    for (const mode of [0o666, 0o646, 0o664, 0o620]) {
      const { file } = fileIn(content, { file: { mode } });
      await refused(flag, file, file);
    }
  });

  test('is refused where others can replace it, whatever its own rights', async () => {
    for (const mode of [0o777, 0o757, 0o775]) {
      const near = fileIn(content, { inner: { mode } });
      await refused(flag, near.file, near.inner);
      const far = fileIn(content, { outer: { mode } });
      await refused(flag, far.file, far.folder);
    }
  });

  test('is refused where it or a folder is another user\'s', async (context) => {
    needs(context, 'root and a build that other users can run');
    const own = fileIn(content, { file: { mode: 0o644, ...another } });
    expect(await refused(flag, own.file, own.file)).toContain('uid 12345');
    const folder = fileIn(content, { outer: { mode: 0o755, ...another } });
    await refused(flag, folder.file, folder.folder);
    const ofNobody = fileIn(content, { file: { mode: 0o644, ...nobody } });
    await refused(flag, ofNobody.file, ofNobody.file); // root does not take it of another user
    const sticky = fileIn(content, { inner: { mode: 0o1777 }, file: { mode: 0o644, ...another } });
    await refused(flag, sticky.file, sticky.file);
  });

  test('is taken from its own user and from root, also in a sticky folder of root\'s', async (context) => {
    needs(context, 'root and a build that other users can run');
    const started = async (file: string, options: DaemonOptions = {}): Promise<unknown> => (await startDaemon({ ...options, args: [flag, file] })).stop();
    await started(fileIn(content, {}).file);
    await started(fileIn(content, { inner: { mode: 0o1777 } }).file);
    await started(fileIn(content, {}).file, { user: nobody });
    await started(fileIn(content, { inner: { mode: 0o700, ...nobody }, file: { mode: 0o600, ...nobody } }).file, { user: nobody, prefix: shell('umask 077') });
    await started('inner/file', { cwd: fileIn(content, {}).folder });
  });

  test('is refused once another user has put his own in its place', async (context) => {
    needs(context, 'root and a build that other users can run');
    const { inner, file } = fileIn(content, { inner: { mode: 0o777 } });
    const attack = await runTool('sh', ['-c', `umask 022; cp "${file}" "${inner}/mine" && mv -f "${inner}/mine" "${file}"`], { user: nobody });
    expect(attack.code, attack.stderr).toBe(0);
    expect(statSync(file)).toMatchObject(nobody);
    await refused(flag, file, inner);
    chmodSync(inner, 0o755);
    await refused(flag, file, file);
  });

  test('is judged by every folder that a link leads through', async () => {
    const { folder, file } = fileIn(content, {});
    const open = join(folder, 'open');
    mkdirSync(open);
    symlinkSync(file, join(open, 'link'));
    await (await startDaemon({ args: [flag, join(open, 'link')] })).stop();
    chmodSync(open, 0o777);
    await refused(flag, join(open, 'link'), open);
  });

  test('is taken through links of root\'s in a sticky folder, as Kubernetes mounts it, but not through those of others', async (context) => {
    needs(context, 'root');
    const { folder } = fileIn(content, {});
    const volume = set(join(folder, 'inner'), { mode: 0o1777, ...root });
    mkdirSync(join(volume, '..2024_01_01'));
    renameSync(join(volume, 'file'), join(volume, '..2024_01_01', 'file'));
    symlinkSync('..2024_01_01', join(volume, '..data'));
    symlinkSync('..data/file', join(volume, 'file'));
    await (await startDaemon({ args: [flag, join(volume, 'file')] })).stop();
    lchownSync(join(volume, 'file'), another.uid, another.gid);
    expect(refusalOf(await runToExit({ args: [flag, join(volume, 'file')] }), 1)).toContain('symbolic link');
  });

  test('can be what a shell hands over, <(command)', async (context) => {
    needs(context, 'command bash');
    const daemon = await startDaemon({ launcher: 'bash', args: ['-c', `exec "$0" ${flag} <(printf %s '${content.trim()}')`, launcher] });
    if (flag === '--client-token-file') expect((await ask(daemon.port)).status).toBe(401);
  });
});

describe('a program that another user can change is told of, in one line, and runs', () => {
  /** A copy of the build with rights of the test's choice, and what the daemon in it says. */
  async function warnings(change: (folder: string) => void, options: DaemonOptions = {}): Promise<{ folder: string; lines: string[] }> {
    const copy = join(buildCopy(), 'src', 'launcher.sh');
    const folder = dirname(dirname(copy));
    change(folder);
    const daemon = await startDaemon({ ...options, launcher: copy });
    await daemon.stop();
    return { folder, lines: daemon.stderr.split('\n').filter((line) => line.includes('who could then read the key')) };
  }

  test('where every user can write it', async () => {
    for (const part of ['', '/dist', '/dist/main.js']) {
      const { folder, lines } = await warnings((copy) => chmodSync(`${copy}${part}`, 0o777));
      expect(lines).toEqual([`responses-api-proxy: ${folder}${part} can be changed by any user, who could then read the key`]);
    }
  });

  test('where it is another user\'s, or another group can write it', async (context) => {
    needs(context, 'root and a build that other users can run');
    const owned = await warnings((copy) => chownSync(copy, another.uid, another.gid));
    expect(owned.lines).toEqual([`responses-api-proxy: ${owned.folder} can be changed by another user (uid 12345), who could then read the key`]);
    const grouped = await warnings((copy) => set(join(copy, 'dist'), { mode: 0o775, ...root, gid: another.gid }));
    expect(grouped.lines).toEqual([`responses-api-proxy: ${grouped.folder}/dist can be changed by another user (of group 12345), who could then read the key`]);
  });

  test('but not where only the user and the user\'s own group can, as with umask 002', async (context) => {
    needs(context, 'root and a build that other users can run');
    expect((await warnings((copy) => chmodSync(copy, 0o775))).lines).toEqual([]);
    const own = await warnings((copy) => {
      for (const part of ['', '/dist', '/dist/main.js']) set(`${copy}${part}`, { mode: 0o775, ...nobody });
    }, { user: nobody });
    expect(own.lines).toEqual([]);
  });
});

test.for(Object.keys(flags))("another user's FIFO is refused by %s, without waiting for its writer", async (flag, context) => {
  needs(context, 'root');
  const folder = scratchFolder();
  chmodSync(folder, 0o1777);
  const fifo = join(folder, 'fifo');
  await runTool('mkfifo', [fifo]);
  chownSync(fifo, another.uid, another.gid);
  expect(refusalOf(await runToExit({ args: [flag, fifo] }), 1)).toContain(`can be changed by another user (uid ${another.uid})`);
});
