import { chmodSync, chownSync, existsSync, lchownSync, linkSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { nobody, runToExit } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

const another = { uid: 12_345, gid: 12_345 } as const;

/** A folder of root's, and one of nobody's with a link to it. */
function linkedFolders(): { readonly own: string; readonly home: string; readonly linked: string } {
  const folder = scratchFolder();
  chmodSync(folder, 0o755);
  const [own, home] = [join(folder, 'own'), join(folder, 'home')];
  for (const path of [own, home]) mkdirSync(path);
  const linked = join(home, 'logs');
  symlinkSync(own, linked);
  chownSync(home, nobody.uid, nobody.gid);
  lchownSync(linked, nobody.uid, nobody.gid);
  return { own, home, linked };
}

test('no link of another user leads --audit-log anywhere', async (context) => {
  needs(context, 'root');
  const { own, linked } = linkedFolders();
  const file = join(linked, 'file');
  for (const more of [[], ['--run-as', 'nobody'], ['--check']]) {
    expect(refusalOf(await runToExit({ args: ['--audit-log', file, ...more] }), 1)).toContain('symbolic link that another user can change');
    expect(readdirSync(own)).toEqual([]);
  }
});

test('--audit-log adds nothing to a file that has another name elsewhere', async (context) => {
  needs(context, 'root');
  const { own, home } = linkedFolders();
  const [target, file] = [join(own, 'precious'), join(home, 'file')];
  writeFileSync(target, '');
  linkSync(target, file);
  expect(refusalOf(await runToExit({ args: ['--audit-log', file] }), 1)).toContain('more than one name');
  expect(readFileSync(target, 'utf8')).toBe('');
});

test('a link of one\'s own in a folder of one\'s own is followed by --audit-log', async () => {
  const folder = scratchFolder();
  mkdirSync(join(folder, 'own'));
  symlinkSync('own', join(folder, 'logs'));
  const file = join(folder, 'logs', 'file');
  expect((await runToExit({ args: ['--audit-log', file], key: '' })).code).toBe(1); // it has no key, and ends behind the log
  expect(existsSync(join(folder, 'own', 'file'))).toBe(true);
});

/** A link of another user's to a folder of nobody's, in a folder of root's with this mode. */
function linkIn(mode: number): { readonly home: string; readonly link: string } {
  const { own, home } = linkedFolders();
  const link = join(own, 'logs');
  chmodSync(own, mode);
  symlinkSync(home, link);
  lchownSync(link, another.uid, another.gid);
  return { home, link };
}

test("--audit-log of a plain user follows another's link where the kernel would, as in Ubuntu's /var/log", async (context) => {
  needs(context, 'root and a build that other users can run');
  const { home, link } = linkIn(0o775);
  expect((await runToExit({ user: nobody, args: ['--audit-log', join(link, 'file')], key: '' })).code).toBe(1); // it has no key
  expect(existsSync(join(home, 'file'))).toBe(true);
});

test("--audit-log of a plain user follows no other's link in a folder such as /tmp", async (context) => {
  needs(context, 'root and a build that other users can run');
  const { home, link } = linkIn(0o1777);
  const exit = await runToExit({ user: nobody, args: ['--audit-log', join(link, 'file')], key: '' });
  expect(refusalOf(exit, 1)).toContain('symbolic link that another user can change');
  expect(exit.stderr).toContain('hint: name the folder that it leads to');
  expect(readdirSync(home)).toEqual(['logs']);
});

test('a file of --audit-log that cannot be given to the user of --run-as does not stay', async (context) => {
  needs(context, 'root', 'command setpriv');
  const file = join(scratchFolder(), 'file');
  const exit = await runToExit({ args: ['--audit-log', file, '--run-as', 'nobody'], prefix: ['setpriv', '--bounding-set', '-chown', '--inh-caps', '-chown'] });
  expect(refusalOf(exit, 1)).toContain('operation not permitted');
  expect(existsSync(file)).toBe(false);
});
