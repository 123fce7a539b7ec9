import { chmodSync, chownSync, existsSync, linkSync, lchownSync, mkdirSync, readFileSync, readdirSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { nobody, runToExit, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

// Who may lead the daemon to another place than the path of --server-info says.

const another = { uid: 12_345, gid: 12_345 } as const;

function folderOf({ uid, gid }: { uid: number; gid: number }, path: string, mode = 0o755): string {
  mkdirSync(path);
  chmodSync(path, mode);
  chownSync(path, uid, gid);
  return path;
}

function linkOf({ uid, gid }: { uid: number; gid: number }, target: string, path: string): string {
  symlinkSync(target, path);
  lchownSync(path, uid, gid);
  return path;
}

const root = { uid: 0, gid: 0 } as const;

/** A home that its user may change, and a folder of root's. */
function homeAndPrecious(): { home: string; precious: string } {
  const folder = scratchFolder();
  return { home: folderOf(nobody, join(folder, 'home')), precious: folderOf(root, join(folder, 'precious.d')) };
}

async function written(file: string, options: DaemonOptions = {}): Promise<string> {
  const daemon = await startDaemon({ ...options, args: ['--server-info', file, ...(options.args ?? [])] });
  const text = readFileSync(file, 'utf8');
  expect(JSON.parse(text)).toMatchObject({ port: daemon.port, pid: daemon.pid });
  expect((await daemon.stop()).code).toBe(0);
  return text;
}

async function refused(file: string, options: DaemonOptions = {}): Promise<string> {
  const reason = refusalOf(await runToExit({ ...options, args: ['--server-info', file, ...(options.args ?? [])] }), 1);
  expect(reason).toContain(file);
  return reason;
}

const toNobody = ['--issue-token', '--allow-user', 'nobody'] as const;

describe('the user who is given the file', () => {
  test('cannot have it made in another folder, by a link in the path', async (context) => {
    needs(context, 'root');
    const { home, precious } = homeAndPrecious();
    linkOf(nobody, precious, join(home, 'run'));
    expect(await refused(join(home, 'run', 'hook.json'), { args: toNobody })).toContain(join(home, 'run'));
    expect(readdirSync(precious)).toEqual([]);
  });

  test('cannot have folders made in another one', async (context) => {
    needs(context, 'root');
    const { home, precious } = homeAndPrecious();
    linkOf(nobody, precious, join(home, 'run'));
    await refused(join(home, 'run', 'sub', 'sub', 'hook.json'), { args: toNobody });
    await refused(join(home, 'run', 'sub', 'hook.json'));
    expect(readdirSync(precious)).toEqual([]);
  });

  test('cannot have another file removed at the end', async (context) => {
    needs(context, 'root');
    const { home, precious } = homeAndPrecious();
    const folder = folderOf(nobody, join(home, 'run'));
    const daemon = await startDaemon({ args: ['--server-info', join(folder, 'hook.json'), ...toNobody] });
    writeFileSync(join(precious, 'hook.json'), readFileSync(join(folder, 'hook.json')));
    renameSync(folder, join(home, 'moved'));
    linkOf(nobody, precious, folder);
    expect((await daemon.stop()).code).toBe(0);
    expect(readdirSync(precious)).toEqual(['hook.json']);
    // It removes its own, wherever that has gone.
    expect(readdirSync(join(home, 'moved'))).toEqual([]);
  });

  test('gets it where the path is straight, or has links of root\'s', async (context) => {
    needs(context, 'root');
    const { home, precious } = homeAndPrecious();
    linkOf(root, home, join(precious, 'home'));
    for (const file of [join(home, 'a', 'hook.json'), join(precious, 'home', 'b', 'hook.json')]) {
      const daemon = await startDaemon({ args: ['--server-info', file, ...toNobody] });
      expect(statSync(file)).toMatchObject(nobody);
      await daemon.stop();
      expect(existsSync(file)).toBe(false);
    }
  });
});

describe('a link in the path', () => {
  test('of the daemon\'s own user is followed, by relative and absolute links, and through ..', async (context) => {
    needs(context, 'root and a build that other users can run');
    const { home } = homeAndPrecious();
    folderOf(nobody, join(home, 'releases'));
    folderOf(nobody, join(home, 'releases', '1'));
    linkOf(nobody, 'releases/1', join(home, 'current'));
    linkOf(nobody, join(home, 'current'), join(home, 'absolute'));
    for (const path of ['current/info.json', 'absolute/info.json', 'current/../1/./new//info.json', 'absolute/../../current/info.json']) await written(`${home}/${path}`, { user: nobody });
  });

  test('is followed under umask 002 too, in a folder of the user\'s own group', async (context) => {
    needs(context, 'root and a build that other users can run');
    const { home } = homeAndPrecious();
    chmodSync(home, 0o775);
    linkOf(nobody, folderOf(nobody, join(home, 'real'), 0o775), join(home, 'link'));
    await written(join(home, 'link', 'info.json'), { user: nobody, prefix: ['sh', '-c', 'umask 002; exec "$@"', 'sh'] });
  });

  test('of another user is not followed, whoever runs the daemon', async (context) => {
    needs(context, 'root and a build that other users can run');
    const { home } = homeAndPrecious();
    const real = folderOf(nobody, join(home, 'real'));
    linkOf(another, real, join(home, 'theirs'));
    const reason = await refused(join(home, 'theirs', 'info.json'), { user: nobody });
    expect(reason).toContain('symbolic link');
    await refused(join(home, 'theirs', 'info.json'));
    expect(readdirSync(real)).toEqual([]);
  });

  test('of root\'s is not followed where another user can replace it or could have brought it there', async (context) => {
    needs(context, 'root');
    const { home, precious } = homeAndPrecious();
    linkOf(root, precious, join(home, 'in-their-folder'));
    await refused(join(home, 'in-their-folder', 'info.json'));

    const open = folderOf(root, join(home, 'open'), 0o777);
    linkOf(root, precious, join(open, 'link'));
    await refused(join(open, 'link', 'info.json'));

    const sticky = folderOf(root, join(home, 'sticky'), 0o1777);
    linkOf(root, precious, join(precious, 'elsewhere'));
    linkSync(join(precious, 'elsewhere'), join(sticky, 'second-name')); // what protected_hardlinks=0 lets them do
    await refused(join(sticky, 'second-name', 'info.json'));
    expect(readdirSync(precious)).toEqual(['elsewhere']);

    linkOf(root, precious, join(sticky, 'link')); // as /tmp would have it
    await written(join(sticky, 'link', 'info.json'));
  });

  test('that leads to itself ends the start', async () => {
    const folder = scratchFolder();
    symlinkSync('loop', join(folder, 'loop'));
    await refused(join(folder, 'loop', 'info.json'));
  });
});

test.for(['', '/', '/.', '/..'])('a path that ends in a folder (%j) is refused', async (end) => {
  const folder = scratchFolder();
  if (end !== '') expect(await refused(`${folder}${end}`)).toContain('folder');
  expect(refusalOf(await runToExit({ args: ['--server-info', `.${end}`] }), 1)).toContain('folder');
});

describe('a file that another user made', () => {
  test.for([0o777, 0o1777])('in a folder that every user can write (%o) is refused', async (mode, context) => {
    needs(context, 'root and a build that other users can run');
    const open = folderOf(root, join(scratchFolder(), 'open'), mode);
    const file = join(open, 'info.json');
    writeFileSync(file, 'planted');
    chmodSync(file, 0o666);
    chownSync(file, another.uid, another.gid);
    for (const options of [{}, { user: nobody }, { args: toNobody }]) expect(await refused(file, options)).toContain('uid 12345');
    expect(readFileSync(file, 'utf8')).toBe('planted');
  });

  test('elsewhere is written in place, as codex-action has it', async (context) => {
    needs(context, 'root and a build that other users can run');
    const file = join(scratchFolder(), 'info.json');
    writeFileSync(file, '');
    chmodSync(file, 0o666);
    chownSync(file, another.uid, another.gid);
    await written(file, { user: nobody });
    expect(statSync(file)).toMatchObject(another);
  });

  test('is no such file where it is the daemon\'s, root\'s or the owner\'s', async (context) => {
    needs(context, 'root and a build that other users can run');
    const open = folderOf(root, join(scratchFolder(), 'open'), 0o777);
    const file = join(open, 'info.json');
    for (const [owner, options] of [[root, {}], [nobody, { user: nobody }], [root, { user: nobody }], [nobody, { args: toNobody }]] as const) {
      writeFileSync(file, '');
      chmodSync(file, 'args' in options ? 0o600 : 0o666);
      chownSync(file, owner.uid, owner.gid);
      await written(file, options);
      expect(existsSync(file)).toBe(false);
    }
  });
});

test('after --run-as it is removed from a folder that its user may write, though no path leads him there', async (context) => {
  needs(context, 'root and a build that other users can run');
  const { home } = homeAndPrecious();
  const closed = folderOf(root, join(home, 'closed'), 0o700);
  const file = join(folderOf(nobody, join(closed, 'own'), 0o700), 'info.json');
  await written(file, { args: ['--run-as', 'nobody', ...toNobody] });
  expect(existsSync(file)).toBe(false);
});
