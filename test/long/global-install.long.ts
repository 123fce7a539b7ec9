import { cpSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { nobody, runToExit } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { nodeOfVersion } from '../support/node-versions.ts';
import { copySources, installGlobally, npm, pack, registryProblem, type Installation, type NpmOptions, type Packed } from '../support/npm.ts';
import { scratchFolder } from '../support/scratch.ts';
import { expectToServe } from '../support/serves.ts';
import { needs, skipUnless } from '../support/skip.ts';

const installTimeoutMs = 120_000;
const rubbish = 'not a shared object';

let packed: Packed;
let installation: Installation;
let problem: string | undefined;

beforeAll(async () => {
  packed = await pack(copySources(join(scratchFolder(), 'sources')), scratchFolder());
  const result = await installGlobally(packed.file, join(scratchFolder(), 'prefix'));
  problem = registryProblem(result);
  if (problem === undefined && result.code !== 0) throw new Error(`npm install failed:\n${result.stderr}`);
  installation = result.installation;
}, installTimeoutMs);

beforeEach((context) => skipUnless(context, problem === undefined, problem ?? ''));

/** The tarball, with another addon for this machine in it. */
async function tarballWith(addon: string | Uint8Array): Promise<string> {
  const folder = scratchFolder();
  cpSync(packed.content, join(folder, 'package'), { recursive: true });
  mkdirSync(join(folder, 'package', 'dist', 'native'), { recursive: true });
  writeFileSync(join(folder, 'package', 'dist', 'native', `${process.arch}.node`), addon);
  const file = join(folder, 'responses-api-proxy-0.0.1.tgz');
  expect((await runTool('tar', ['-czf', file, '-C', folder, 'package'])).code).toBe(0);
  return file;
}

describe('the command', () => {
  test('serves from any folder', async () => {
    await expectToServe({ launcher: installation.command, cwd: '/' });
  });

  test('serves by its name on PATH', async () => {
    await expectToServe({ prefix: ['sh', '-c', `PATH="${installation.prefix}/bin:$PATH"; exec responses-api-proxy "$@"`], launcher: 'sh', cwd: scratchFolder() });
  });

  test("serves through a symlink to npm's symlink", async () => {
    const link = join(scratchFolder(), 'proxy');
    symlinkSync(installation.command, link);
    await expectToServe({ launcher: link, cwd: '/' });
  });

  test('serves another user than the one who installed it', async (context) => {
    needs(context, 'root');
    await expectToServe({ launcher: installation.command, cwd: '/', user: nobody });
  });

  test('has a man page where man looks for it', () => {
    expect(readFileSync(join(installation.prefix, 'share', 'man', 'man1', 'responses-api-proxy.1'), 'utf8')).toMatch(/^\.TH RESPONSES/);
  });

  test('tells the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(join(packed.content, 'package.json'), 'utf8')) as { version: string };
    expect(await runToExit({ launcher: installation.command, args: ['--version'], stdin: 'ignore' })).toMatchObject({ code: 0, stdout: `${version}\n` });
  });

  test('serves from npx, which installs nothing', { timeout: installTimeoutMs }, async () => {
    await expectToServe({
      prefix: ['npm', 'exec', '--yes', '--prefer-offline', `--package=${packed.file}`, '--'], launcher: 'responses-api-proxy', cwd: scratchFolder(),
      env: { HOME: process.env['HOME'] ?? '/', npm_config_cache: process.env['npm_config_cache'] ?? join(process.env['HOME'] ?? '/', '.npm'), npm_config_update_notifier: 'false' },
    });
  });
});

describe('scripts of the package', () => {
  test('are not needed where the prebuilt addon fits', { timeout: installTimeoutMs }, async (context) => {
    skipUnless(context, existsSync(join(packed.content, 'dist', 'native', `${process.arch}.node`)), `there is no prebuilt addon for ${process.arch}`);
    const result = await installGlobally(packed.file, join(scratchFolder(), 'prefix'), ['--ignore-scripts']);
    expect(result.code, result.stderr).toBe(0);
    await expectToServe({ launcher: result.installation.command, cwd: '/' });
  });

  test('leave a prebuilt addon that fits as it is', async () => {
    expect(readFileSync(installation.addon).equals(readFileSync(join(packed.content, 'dist', 'native', `${process.arch}.node`)))).toBe(true);
  });

  test('compile it where the prebuilt one does not load', { timeout: installTimeoutMs }, async () => {
    const result = await installGlobally(await tarballWith(rubbish), join(scratchFolder(), 'prefix'), [], { umask: '077' });
    expect(result.code, result.stderr).toBe(0);
    expect(readFileSync(result.installation.addon, 'latin1')).toMatch(/^\x7fELF/);
    expect(statSync(result.installation.addon).mode & 0o777).toBe(0o755);
    await expectToServe({ launcher: result.installation.command, cwd: '/' });
  });

  const compilers = {
    'no compiler': () => 'no-such-compiler',
    'a compiler that fails': () => {
      const file = join(scratchFolder(), 'cc');
      // It preprocesses, so that its headers seem to be there, and nothing more.
      writeFileSync(file, '#!/bin/sh\ncase $* in -E*) exit 0 ;; esac\necho "cc: internal compiler error" >&2\nexit 1\n', { mode: 0o755 });
      return file;
    },
  };
  test.for(Object.entries(compilers))('with %s the installation succeeds, and the daemon says what is missing', { timeout: installTimeoutMs }, async ([, compiler]) => {
    const env = { CC: compiler() };
    const result = await installGlobally(await tarballWith(rubbish), join(scratchFolder(), 'prefix'), ['--foreground-scripts'], { env });
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr).toMatch(/^build-native: .*; the addon is not built\nhint: ./m);
    const start = { launcher: result.installation.command, cwd: '/' };
    expect(refusalOf(await runToExit(start), 3)).toBe('its native part is missing or does not load');
  });

  test.for([['this npm', ''], ['npm 12, which runs no script of a package', 'npm@12']] as const)('the command of the hint mends it, with %s', { timeout: installTimeoutMs }, async ([, wanted], context) => {
    const { missing, ...options } = wanted === '' ? {} : await otherNpm(wanted);
    skipUnless(context, missing === undefined, missing ?? '');
    const { installation: broken } = await installGlobally(await tarballWith(rubbish), join(scratchFolder(), "it's the prefix"), [], { ...options, env: { CC: 'no-such-compiler' } });
    const start = { launcher: broken.command, cwd: '/' };
    const { stderr } = await runToExit(start);
    expect(stderr).not.toContain('npm');
    const command = /^hint: install a C compiler, then: (sh .*)$/m.exec(stderr)?.[1] ?? '';
    expect(await runTool('sh', ['-c', command])).toMatchObject({ code: 0, stderr: '' });
    await expectToServe(start);
  });
});

/** Another npm, and a Node that it runs on; or why there is none. */
async function otherNpm(wanted: string): Promise<NpmOptions & { readonly missing?: string }> {
  const node = await nodeOfVersion(24);
  if ('missing' in node) return node;
  const folder = scratchFolder();
  const result = await npm(['install', '--prefix', folder, '--no-save', wanted]);
  const missing = registryProblem(result);
  if (missing !== undefined) return { missing };
  expect(result.code, result.stderr).toBe(0);
  return { cli: join(folder, 'node_modules', 'npm', 'bin', 'npm-cli.js'), nodeFolder: dirname(node.path) };
}
