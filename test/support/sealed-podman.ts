import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cleanUp } from './cleanup.ts';
import { runTool, type ToolResult } from './native-tools.ts';
import { scratchFolder } from './scratch.ts';
import { hasCommand } from './skip.ts';

const script = fileURLToPath(new URL('sealed-podman.sh', import.meta.url));

/** What an image of the stand-in has from this machine: its programs and libraries, and whom they trust. */
const machine = ['/usr', '/etc/ssl', '/etc/alternatives'].map((folder) => `--volume=${folder}:${folder}:ro`);

/** Limits that root without CAP_SYS_RESOURCE can set, and no cgroup: crun would set more for one. */
const limits = ['--cgroups=disabled', '--ulimit=nofile=1024:1024', '--ulimit=nproc=1024:1024'];

/** Podman, with images and containers of its own that end with the test. */
export class SealedPodman {
  readonly #folder = scratchFolder();

  constructor() {
    cleanUp(() => this.#podman(['rm', '--all', '--force', '--time=0']));
  }

  /** Why there can be none; undefined where there can. */
  static async problem(): Promise<string | undefined> {
    if (process.getuid?.() !== 0) return 'needs root';
    const missing = ['podman', 'crun', 'unshare'].find((name) => !hasCommand(name));
    if (missing !== undefined) return `needs command ${missing}`;
    const podman = new SealedPodman();
    await podman.importBase('localhost/trial');
    const { code, stderr } = await podman.run(['--rm', '--network=none'], 'localhost/trial', 'true');
    return code === 0 ? undefined : `needs a machine on which podman runs: ${stderr.trim().split('\n').at(-1) ?? ''}`;
  }

  /**
   * Imports a stand-in for a base image with Node and npm, which a registry would have: Node and npm are this machine's,
   * and so is all that apt-get would install.
   */
  async importBase(name: string): Promise<void> {
    const root = scratchFolder();
    for (const folder of ['usr', 'etc', 'tmp', 'run/secrets', 'proc', 'sys', 'dev', 'root', 'opt/stand-in', 'var/tmp']) mkdirSync(join(root, folder), { recursive: true });
    for (const folder of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${folder}`, join(root, folder));
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n');
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
    writeFileSync(join(root, 'opt/stand-in/apt-get'), '#!/bin/sh\n', { mode: 0o755 });
    const archive = join(scratchFolder(), 'root.tar');
    await runTool('tar', ['-C', root, '-cf', archive, '.']);
    const variables = {
      PATH: '/opt/stand-in:/opt/npm/bin:/usr/local/bin:/usr/bin:/bin',
      npm_config_prefix: '/opt/npm', // /usr is the machine's
      ...(process.env['NODE_EXTRA_CA_CERTS'] === undefined ? {} : { NODE_EXTRA_CA_CERTS: process.env['NODE_EXTRA_CA_CERTS'] }),
    };
    await this.#must(['import', ...Object.entries(variables).map(([variable, value]) => `--change=ENV ${variable}=${value}`), archive, name]);
  }

  /** `podman build`, where the base image is the stand-in. */
  build(args: readonly string[], context: string): Promise<ToolResult> {
    return this.#podman(['build', '--pull-never', '--isolation=chroot', '--network=host', ...machine, ...args, context]);
  }

  /** `podman run`, where the base image is the stand-in. */
  run(options: readonly string[], image: string, ...command: readonly string[]): Promise<ToolResult> {
    return this.#podman(['run', ...limits, ...machine, ...options, image, ...command]);
  }

  /** Any other of its commands. Throws when it fails. */
  async do(...args: readonly string[]): Promise<string> {
    return (await this.#must(args)).stdout;
  }

  async #must(args: readonly string[]): Promise<ToolResult> {
    const result = await this.#podman(args);
    if (result.code !== 0) throw new Error(`podman ${args.join(' ')} failed (${result.code}):\n${result.stderr}`);
    return result;
  }

  #podman(args: readonly string[]): Promise<ToolResult> {
    return runTool('sh', [script, this.#folder, ...args]);
  }
}
