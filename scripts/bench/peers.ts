import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { fetchCodex } from '../codex.ts';
import { freePort, startService, whenInfoIsThere, whenListening, writeConfiguration } from './service.ts';
import type { Service } from './service.ts';

/** An upstream as the peers get to know it. */
export interface Upstream {
  readonly port: number;
  readonly caFile: string;
  readonly token: string;
}

/** Where a client sends its requests. */
export interface Target {
  readonly protocol: 'http:' | 'https:';
  readonly port: number;
  /** What a client must authorize itself with; undefined where the target adds the key. */
  readonly token: string | undefined;
  readonly caFile: string;
}

export type PeerName = 'daemon' | 'nginx' | 'haproxy' | 'codex' | 'relay';

/** A program that does the daemon's job, in its own way. */
export interface Peer {
  readonly name: PeerName;
  readonly version: string;
  /** @param folder an empty one, which stays until the process is stopped */
  start(upstream: Upstream, folder: string): Promise<Service>;
}

/** There is no such program on this machine, and no way to get it. */
export interface MissingPeer {
  readonly name: PeerName;
  readonly reason: string;
}

const codexVersion = '0.169.0';
const root = fileURLToPath(new URL('../..', import.meta.url));
const path = process.env['PATH'];

/** Finds a peer on this machine; `codexFolder` is where Codex is kept between two runs. */
export async function findPeer(name: PeerName, codexFolder: string): Promise<Peer | MissingPeer> {
  switch (name) {
    case 'daemon':
      return daemon([]);
    case 'nginx':
      return nginx();
    case 'haproxy':
      return haproxy();
    case 'codex':
      return codex(codexFolder);
    case 'relay':
      return relay;
  }
}

const launcher = join(root, 'src', 'launcher.sh');

/** @param flags beside those that everybody is measured with */
export function daemon(flags: readonly string[]): Peer {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  if (!existsSync(join(root, 'dist', 'main.js'))) throw new Error('the daemon is not built: npm ci');
  return {
    name: 'daemon', version,
    start: (upstream, folder) => startService({
      name: 'the daemon', file: launcher, env: { PATH: path }, input: `${upstream.token}\n`,
      args: [
        '--server-info', join(folder, 'info.json'),
        '--upstream-url', `https://localhost:${upstream.port}/v1/responses`, '--upstream-ca', upstream.caFile, ...flags,
      ],
      ready: whenInfoIsThere(join(folder, 'info.json')),
    }),
  };
}

/** Those of some flags that the daemon does not have. */
export function missingFlags(flags: readonly string[]): string[] {
  const { stdout } = spawnSync(launcher, ['--help'], { env: { PATH: path }, encoding: 'utf8' });
  return flags.filter((flag) => !new RegExp(`${flag}\\b`).test(stdout));
}

function nginx(): Peer | MissingPeer {
  const version = versionOf('nginx', ['-v'], /nginx\/(\S+)/);
  if (version === undefined) return { name: 'nginx', reason: 'nginx is not installed' };
  return {
    name: 'nginx', version,
    async start(upstream, folder) {
      const port = await freePort();
      const configuration = join(folder, 'nginx.conf');
      writeConfiguration('nginx.conf', configuration, {
        PORT: port, FOLDER: folder, UPSTREAM_PORT: upstream.port, CA: upstream.caFile, TOKEN: upstream.token,
        // Started by root, its worker would become another user and could not enter the folder.
        USER: process.getuid?.() === 0 ? 'user root;' : '',
      });
      return startService({
        name: 'nginx', file: 'nginx', env: { PATH: path }, args: ['-p', folder, '-e', 'stderr', '-c', configuration], ready: whenListening(port),
      });
    },
  };
}

function haproxy(): Peer | MissingPeer {
  const version = versionOf('haproxy', ['-v'], /version (\d+\.\d+\.\d+)/);
  if (version === undefined) return { name: 'haproxy', reason: 'haproxy is not installed' };
  return {
    name: 'haproxy', version,
    async start(upstream, folder) {
      const port = await freePort();
      const configuration = join(folder, 'haproxy.conf');
      writeConfiguration('haproxy.conf', configuration, { PORT: port, UPSTREAM_PORT: upstream.port, CA: upstream.caFile, TOKEN: upstream.token });
      return startService({ name: 'HAProxy', file: 'haproxy', env: { PATH: path }, args: ['-db', '-q', '-f', configuration], ready: whenListening(port) });
    },
  };
}

async function codex(folder: string): Promise<Peer | MissingPeer> {
  if (codexProgram(folder) === undefined) {
    mkdirSync(folder, { recursive: true });
    const fetched = await fetchCodex(codexVersion, folder);
    if (fetched.kind === 'unavailable') return { name: 'codex', reason: fetched.reason };
  }
  const program = codexProgram(folder);
  const version = program === undefined ? undefined : versionOf(program, ['--version'], /(\d+\.\d+\.\d+)/);
  if (program === undefined || version === undefined) return { name: 'codex', reason: `no codex program that runs in ${folder}` };
  return {
    name: 'codex', version,
    start: (upstream, home) => startService({
      name: 'codex', file: program, input: `${upstream.token}\n`, env: { PATH: path, HOME: home, SSL_CERT_FILE: upstream.caFile },
      args: ['responses-api-proxy', '--server-info', join(home, 'info.json'), '--upstream-url', `https://localhost:${upstream.port}/v1/responses`],
      ready: whenInfoIsThere(join(home, 'info.json')),
    }),
  };
}

/** The program itself, not the script of npm's that starts it. */
function codexProgram(folder: string): string | undefined {
  const packages = join(folder, 'node_modules', '@openai');
  if (!existsSync(packages)) return undefined;
  return readdirSync(packages, { recursive: true, encoding: 'utf8' })
    .filter((file) => /vendor\/[^/]+\/(bin|codex)\/codex$/.test(file)).map((file) => join(packages, file))[0];
}

/** The smallest relay that node:http and undici allow: no gate, no custody, no care. What the daemon costs beyond it is its own. */
export const relay: Peer = {
  name: 'relay', version: process.versions.node,
  start: (upstream) => startService({
    name: 'the relay', file: process.execPath, env: { PATH: path },
    args: [...script('relay.ts'), String(upstream.port), upstream.caFile, upstream.token],
    ready: portThatItSays,
  }),
};

/** What node has to be given to run a script that lies here. */
export function script(name: string): string[] {
  return ['--import', import.meta.resolve('tsx'), fileURLToPath(new URL(name, import.meta.url))];
}

/** Ready when the program has written its port to stdout. */
export function portThatItSays(said: string): number | undefined {
  return /^\d+\n/.test(said) ? Number.parseInt(said, 10) : undefined;
}

/** Compiles a C program that lies here. The only libraries are libssl and libcrypto, whose headers are not needed, see tls.h. */
export function compile(name: string, folder: string): string {
  const program = join(folder, name);
  const source = fileURLToPath(new URL(`${name}.c`, import.meta.url));
  try {
    execFileSync(process.env['CC'] ?? 'cc', ['-std=c11', '-O2', '-Wall', source, '-o', program, '-l:libssl.so.3', '-l:libcrypto.so.3'], { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (error) {
    throw new Error(`cannot compile ${name}.c: ${error instanceof Error ? error.message : String(error)}`);
  }
  return program;
}

/** What a program says its version is, or undefined where it does not run. */
export function versionOf(program: string, args: readonly string[], form: RegExp): string | undefined {
  const { error, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  return error === undefined ? form.exec(`${stdout}${stderr}`)?.[1] : undefined;
}
