import { spawnSync } from 'node:child_process';
import { chmod, mkdtemp } from 'node:fs/promises';
import { existsSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { makeTestCertificates } from './certificates.ts';
import { builtMain, checkout } from './checkout.ts';
import { copyBuild } from './copy-build.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** This run's temporary folder, readable by every user, removed when the run ends. */
    runFolder: string;
    /** The path of the launcher; see `daemon-paths.ts`. */
    launcher: string;
  }
}

/** Once per run: a temporary folder with fresh certificates in it, and a build that other users can run. */
export default async function setup(project: TestProject): Promise<() => void> {
  if (!existsSync(builtMain)) throw new Error(`${builtMain} is missing: run \`npm run prepare\` first, the tests run the built daemon`);
  const folder = await mkdtemp(join(tmpdir(), 'responses-api-proxy-test-'));
  // Some tests start programs as another user, who has to read the CA and run what is compiled here. Tests inherit both of these.
  process.umask(0o022);
  await chmod(folder, 0o755);
  noProxyForLoopback(process.env);
  makeTestCertificates(folder);
  project.provide('runFolder', folder);
  project.provide('launcher', launcherForAll(folder));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  // Vitest does not tear down when it is ended by a signal.
  process.once('exit', remove);
  return () => {
    process.off('exit', remove);
    remove();
  };
}

/** A proxy in the environment is for npm, which may need it. curl and others would ask it for what is on this machine, too. */
function noProxyForLoopback(environment: NodeJS.ProcessEnv): void {
  for (const name of ['no_proxy', 'NO_PROXY']) environment[name] = [environment[name], 'localhost', '127.0.0.1', '::1'].filter(Boolean).join(',');
}

/** The checkout's launcher, or that of a copy where only root can use the checkout. */
function launcherForAll(folder: string): string {
  const launcher = join(checkout, 'src', 'launcher.sh');
  if (process.getuid?.() !== 0 || canOthersRun(launcher)) return launcher;
  return copyBuild(join(folder, 'build'));
}

function canOthersRun(launcher: string): boolean {
  const [uid, gid] = [65_534, 65_534]; // nobody
  return spawnSync(launcher, ['--version'], { uid, gid, cwd: '/', stdio: 'ignore', env: { PATH: process.env['PATH'] ?? '' } }).status === 0;
}
