import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { runTool } from '../support/native-tools.ts';
import { copySources, pack, type Packed } from '../support/npm.ts';
import { scratchFolder } from '../support/scratch.ts';
import { hasCommand, needs, skipUnless } from '../support/skip.ts';

const packTimeoutMs = 120_000;

/** The oldest glibc that Node 20 itself runs on: https://github.com/nodejs/node/blob/v20.x/BUILDING.md */
const oldestGlibc = [2, 28] as const;

/** The compilers of `npm pack`, by Node's name of the architecture. */
const compilers = { x64: 'x86_64-linux-gnu-gcc', arm64: 'aarch64-linux-gnu-gcc' } as const;

/** The starter is called as `uname -m` calls the machine. */
function starterFor(architecture: string): string {
  return `dist/native/starter-${architecture === 'x64' ? 'x86_64' : 'aarch64'}`;
}

let sources: string;
let packed: Packed;

beforeAll(async () => {
  sources = copySources(join(scratchFolder(), 'sources'));
  packed = await pack(sources, scratchFolder());
}, packTimeoutMs);

/** Files below `folder`, relative to it. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

/** A folder with everything that is on PATH, except for some commands. */
function pathWithout(...commands: readonly string[]): string {
  const folder = scratchFolder();
  for (const from of new Set((process.env['PATH'] ?? '').split(':'))) {
    if (!existsSync(from)) continue;
    for (const name of readdirSync(from)) {
      if (!commands.includes(name) && !existsSync(join(folder, name)) && existsSync(join(from, name))) symlinkSync(join(from, name), join(folder, name));
    }
  }
  return folder;
}

describe('what is in it', () => {
  test('the built daemon, its launcher and starter, its man page, the unit, what is compiled, and how to use them: nothing else', () => {
    const modules = filesIn(join(checkout, 'src')).filter((file) => file.endsWith('.ts')).map((file) => `dist/${file.replace(/\.ts$/, '.js')}`);
    const c = readdirSync(join(checkout, 'src', 'native')).filter((file) => /\.[ch]$/.test(file)).map((file) => `src/native/${file}`);
    const built = Object.entries(compilers).filter(([, compiler]) => hasCommand(compiler))
      .flatMap(([architecture]) => [`dist/native/${architecture}.node`, starterFor(architecture)]);
    expect(filesIn(packed.content)).toEqual([
      'LICENSE', 'README.md', 'scripts/systemd/README.md', 'src/key/README.md', 'src/extras/README.md', 'src/proxy/README.md', 'package.json', 'scripts/build-native.sh', 'scripts/keys/README.md', 'scripts/keys/openai-oidc', 'scripts/policies/codex.json', 'scripts/systemd/pod.yaml', 'scripts/systemd/responses-api-proxy.logrotate', 'scripts/systemd/responses-api-proxy.service', 'scripts/systemd/responses-api-proxy.socket', 'src/launcher.sh', 'src/extras/policy/policy.schema.json',
      'dist/responses-api-proxy.1', ...modules, ...c, ...built,
    ].sort());
  });

  test('every file can be read by every user, and the programs can be executed', () => {
    const modes = Object.fromEntries(filesIn(packed.content).map((file) => [file, statSync(join(packed.content, file)).mode & 0o777]));
    const executable = Object.entries(modes).filter(([, mode]) => mode !== 0o644);
    expect(executable.filter(([file]) => !/\.node$|\/starter-/.test(file))).toEqual([['scripts/keys/openai-oidc', 0o755], ['src/launcher.sh', 0o755]]);
    expect(executable.every(([, mode]) => mode === 0o755)).toBe(true);
  });

  test('nothing in it tells where it was built', () => {
    for (const file of filesIn(packed.content)) {
      const text = readFileSync(join(packed.content, file), 'latin1');
      expect(text.includes(sources) || text.includes(checkout), file).toBe(false);
    }
  });

  test('dependencies are exact versions', () => {
    const { dependencies } = JSON.parse(readFileSync(join(packed.content, 'package.json'), 'utf8')) as { dependencies: Record<string, string> };
    expect(Object.values(dependencies).filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });
});

describe('the addon is prebuilt', () => {
  const machines = { x64: /ELF64[^]*Advanced Micro Devices X86-64/, arm64: /ELF64[^]*AArch64/ } as const;

  test.for(Object.entries(machines))('for glibc on %s', async ([architecture, machine], context) => {
    needs(context, 'command readelf', `command ${compilers[architecture as keyof typeof compilers]}`);
    const file = join(packed.content, 'dist', 'native', `${architecture}.node`);
    expect((await runTool('readelf', ['--file-header', '--wide', file])).stdout).toMatch(machine);
    const { stdout: dynamic } = await runTool('readelf', ['--dynamic', '--wide', file]);
    const needed = [...dynamic.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, library]) => library ?? '');
    expect(needed.filter((library) => !/^(libc\.so\.6|ld-linux-.*)$/.test(library))).toEqual([]);
    expect(dynamic, 'lazy binding would leave the GOT writable').toMatch(/BIND_NOW|\bNOW\b/);
    const { stdout: segments } = await runTool('readelf', ['--program-headers', '--wide', file]);
    expect(segments).toMatch(/GNU_RELRO/);
    expect(segments).toMatch(/GNU_STACK\s+(?:0x\w+\s+){5}RW\s/);
  });

  test.for(Object.keys(machines))('on %s it asks for no newer glibc than Node does', async (architecture, context) => {
    needs(context, 'command readelf', `command ${compilers[architecture as keyof typeof compilers]}`);
    const { stdout } = await runTool('readelf', ['--version-info', '--wide', join(packed.content, 'dist', 'native', `${architecture}.node`)]);
    const versions = [...stdout.matchAll(/Name: GLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [Number(major), Number(minor)] as const);
    expect(versions.length).toBeGreaterThan(0);
    expect(versions.filter(([major, minor]) => major > oldestGlibc[0] || minor > oldestGlibc[1])).toEqual([]);
  });

  test.for(Object.entries(machines))('and the starter beside it, which needs no library, on %s', async ([architecture, machine], context) => {
    needs(context, 'command readelf', `command ${compilers[architecture as keyof typeof compilers]}`);
    const file = join(packed.content, starterFor(architecture));
    expect((await runTool('readelf', ['--file-header', '--wide', file])).stdout).toMatch(machine);
    const { stdout: segments } = await runTool('readelf', ['--program-headers', '--wide', file]);
    expect(segments).not.toMatch(/INTERP|DYNAMIC/);
    expect(segments).toMatch(/GNU_STACK\s+(?:0x\w+\s+){5}RW\s/);
  });

  test('the one for this machine loads', async (context) => {
    const file = join(packed.content, 'dist', 'native', `${process.arch}.node`);
    skipUnless(context, existsSync(file), `there is none for ${process.arch}`);
    expect(await runTool(process.execPath, ['-e', 'process.dlopen({ exports: {} }, process.argv[1])', file])).toMatchObject({ code: 0, stderr: '' });
  });

  test('without the cross compiler npm pack warns, and leaves that one out', { timeout: packTimeoutMs }, async () => {
    const path = pathWithout(compilers.arm64);
    const without = await pack(copySources(join(scratchFolder(), 'sources')), scratchFolder(), { env: { PATH: path } });
    expect(without.said).toMatch(/^build-native: no C compiler for arm64 \(aarch64-linux-gnu-gcc\); the addon is not built\nhint: .*gcc-aarch64-linux-gnu/m);
    const left = filesIn(packed.content).filter((file) => file !== 'dist/native/arm64.node' && file !== starterFor('arm64'));
    expect(filesIn(without.content)).toEqual(left);
  });
});

describe('the same sources give the same bytes', () => {
  test('when packed twice in one place, whatever earlier builds left there', { timeout: packTimeoutMs }, async () => {
    mkdirSync(join(sources, 'dist', 'removed-since'), { recursive: true });
    chmodSync(join(sources, 'dist', 'main.js'), 0o600);
    const again = await pack(sources, scratchFolder());
    expect(digestOf(again.file)).toBe(digestOf(packed.file));
  });

  test('in another folder, with other times, modes and umask', { timeout: packTimeoutMs }, async () => {
    const other = copySources(join(scratchFolder(), 'a much longer path', 'to the sources'));
    for (const file of filesIn(other)) {
      if (file.startsWith('node_modules')) continue;
      const path = join(other, file);
      chmodSync(path, statSync(path).mode & 0o100 ? 0o700 : 0o600);
      utimesSync(path, 1_000_000_000, 1_000_000_000);
    }
    const again = await pack(other, scratchFolder(), { umask: '077', env: { TZ: 'Asia/Tokyo', LC_ALL: 'C.UTF-8' } });
    expect(digestOf(again.file)).toBe(digestOf(packed.file));
  });
});
