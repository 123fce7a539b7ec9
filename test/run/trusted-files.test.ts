import { chmodSync, chownSync, lchownSync, mkdirSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildCopy } from '../support/build-copy.ts';
import { readTrustedFile } from '../../src/extras/trusted-file.ts';
import { otherWriter } from '../../src/run/file-trust.ts';
import { asUser } from '../support/as-user.ts';
import { failureOf } from '../support/command-line.ts';
import { launcher } from '../support/daemon-paths.ts';
import { nobody, runToExit, startDaemon } from '../support/daemon.ts';
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

const content = 'what the file says\n';

/** What each flag reads. */
const flags: Record<string, string> = { '--client-token-file': 'a-token-of-the-daemon\n', '--policy': '{"models":["*"]}\n' };

/** FOLDER/inner/file, in folders and with rights of the test's choice. */
function fileIn({ outer = { mode: 0o755 }, inner = { mode: 0o755 }, file = { mode: 0o644 } }: { outer?: Right; inner?: Right; file?: Right }): { folder: string; inner: string; file: string } {
  const folder = join(scratchFolder(), 'outer');
  mkdirSync(join(folder, 'inner'), { recursive: true });
  const path = join(folder, 'inner', 'file');
  writeFileSync(path, content);
  return { file: set(path, file), inner: set(join(folder, 'inner'), inner), folder: set(folder, outer) };
}

/** The file is refused for `culprit`, which the hint names too. Returns the message. */
async function refused(file: string, culprit: string): Promise<string> {
  const { message, hint } = await failureOf(() => readTrustedFile('--flag', file), 1);
  expect(message).toContain(`--flag ${file}: ${culprit} can be changed by `);
  expect(hint).toMatch(new RegExp(`${culprit}$`));
  expect(message + hint).not.toContain(content);
  return message;
}

const taken = (file: string): void => expect(readTrustedFile('--flag', file)).toBe(content);

describe('a file that says who may use the key, and for what,', () => {
  test('is refused where others than its owner can write it', async () => {
    for (const mode of [0o666, 0o646, 0o664, 0o620]) {
      const { file } = fileIn({ file: { mode } });
      await refused(file, file);
    }
  });

  test('is refused where others can replace it, whatever its own rights', async () => {
    for (const mode of [0o777, 0o757, 0o775]) {
      const near = fileIn({ inner: { mode } });
      await refused(near.file, near.inner);
      const far = fileIn({ outer: { mode } });
      await refused(far.file, far.folder);
    }
  });

  test('is refused where it or a folder is another user\'s', async (context) => {
    needs(context, 'root');
    const own = fileIn({ file: { mode: 0o644, ...another } });
    expect(await refused(own.file, own.file)).toContain('uid 12345');
    const folder = fileIn({ outer: { mode: 0o755, ...another } });
    await refused(folder.file, folder.folder);
    const ofNobody = fileIn({ file: { mode: 0o644, ...nobody } });
    await refused(ofNobody.file, ofNobody.file); // root does not take it of another user
    const sticky = fileIn({ inner: { mode: 0o1777 }, file: { mode: 0o644, ...another } });
    await refused(sticky.file, sticky.file);
  });

  test('is taken from its own user and from root, also in a sticky folder of root\'s', (context) => {
    needs(context, 'root');
    taken(fileIn({}).file);
    taken(fileIn({ inner: { mode: 0o1777 } }).file);
    const [roots, own] = [fileIn({}).file, fileIn({ inner: { mode: 0o700, ...nobody }, file: { mode: 0o600, ...nobody } }).file];
    asUser(nobody, () => [roots, own].forEach(taken));
  });

  test('is taken by a relative path', () => {
    const here = process.cwd();
    process.chdir(fileIn({}).folder);
    try {
      taken('inner/file');
    } finally {
      process.chdir(here);
    }
  });

  test('is refused once another user has put his own in its place', async (context) => {
    needs(context, 'root');
    const { inner, file } = fileIn({ inner: { mode: 0o777 } });
    const attack = await runTool('sh', ['-c', `umask 022; cp "${file}" "${inner}/mine" && mv -f "${inner}/mine" "${file}"`], { user: nobody });
    expect(attack.code, attack.stderr).toBe(0);
    expect(statSync(file)).toMatchObject(nobody);
    await refused(file, inner);
    chmodSync(inner, 0o755);
    await refused(file, file);
  });

  test('is judged by every folder that a link leads through', async () => {
    const { folder, file } = fileIn({});
    const open = join(folder, 'open');
    mkdirSync(open);
    symlinkSync(file, join(open, 'link'));
    taken(join(open, 'link'));
    chmodSync(open, 0o777);
    await refused(join(open, 'link'), open);
  });

  test('is taken through links of root\'s in a sticky folder, as Kubernetes mounts it, but not through those of others', async (context) => {
    needs(context, 'root');
    const { folder } = fileIn({});
    const volume = set(join(folder, 'inner'), { mode: 0o1777, ...root });
    mkdirSync(join(volume, '..2024_01_01'));
    renameSync(join(volume, 'file'), join(volume, '..2024_01_01', 'file'));
    symlinkSync('..2024_01_01', join(volume, '..data'));
    symlinkSync('..data/file', join(volume, 'file'));
    taken(join(volume, 'file'));
    lchownSync(join(volume, 'file'), another.uid, another.gid);
    expect((await failureOf(() => readTrustedFile('--flag', join(volume, 'file')), 1)).message).toContain('symbolic link');
  });
});

describe.for(Object.entries(flags))('the file of %s', ([flag, content]) => {
  test('is read that way', async () => {
    const { file } = fileIn({ file: { mode: 0o666 } });
    writeFileSync(file, content);
    expect(refusalOf(await runToExit({ args: [flag, file] }), 1)).toBe(`${flag} ${file}: ${file} can be changed by any user`);
  });

  test('can be what a shell hands over, <(command)', async (context) => {
    needs(context, 'command bash');
    const daemon = await startDaemon({ launcher: 'bash', args: ['-c', `exec "$0" ${flag} <(printf %s '${content.trim()}')`, launcher] });
    if (flag === '--client-token-file') expect((await ask(daemon.port)).status).toBe(401);
  });
});

describe('a program that another user can change', () => {
  test('is told of, in one line, and runs, wherever it is that it can be changed', async () => {
    const copy = join(buildCopy(), 'src', 'launcher.sh');
    const folder = dirname(dirname(copy));
    for (const part of ['/dist/main.js', '/dist', '']) {
      chmodSync(`${folder}${part}`, 0o777);
      const daemon = await startDaemon({ launcher: copy });
      await daemon.stop();
      const lines = daemon.stderr.split('\n').filter((line) => line.includes('who could then read the key'));
      expect(lines).toEqual([`responses-api-proxy: ${folder}${part} can be changed by any user, who could then read the key`]);
    }
  });

  /** By whom besides root and the daemon's user it can be changed. */
  const writerOf = (right: Right): string | undefined => otherWriter(statSync(fileIn({ file: right }).file), false);

  test('is one that is another user\'s, or that another group can write', (context) => {
    needs(context, 'root');
    expect(writerOf({ mode: 0o644, ...another })).toBe('another user (uid 12345)');
    expect(writerOf({ mode: 0o775, ...root, gid: another.gid })).toBe('another user (of group 12345)');
    expect(asUser(nobody, () => otherWriter(statSync('/'), false))).toBe(undefined);
  });

  test('is none that only the user and the user\'s own group can, as with umask 002', (context) => {
    needs(context, 'root');
    expect(writerOf({ mode: 0o775 })).toBe(undefined);
    const { file } = fileIn({ file: { mode: 0o775, ...nobody } });
    expect(asUser(nobody, () => otherWriter(statSync(file), false))).toBe(undefined);
  });
});

test("another user's FIFO is refused, without waiting for its writer", async (context) => {
  needs(context, 'root');
  const folder = scratchFolder();
  chmodSync(folder, 0o1777);
  const fifo = join(folder, 'fifo');
  await runTool('mkfifo', [fifo]);
  chownSync(fifo, another.uid, another.gid);
  expect(refusalOf(await runToExit({ args: ['--policy', fifo] }), 1)).toContain(`can be changed by another user (uid ${another.uid})`);
});
