import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { makeTestCertificates } from './certificates.ts';
import { builtMain } from './daemon-paths.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** This run's temporary folder, readable by every user, removed when the run ends. */
    runFolder: string;
  }
}

/** Once per run: a temporary folder with fresh certificates in it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!existsSync(builtMain)) throw new Error(`${builtMain} is missing: run \`npm run prepare\` first, the tests run the built daemon`);
  const folder = await mkdtemp(join(tmpdir(), 'responses-api-proxy-test-'));
  // Some tests start the daemon as another user, which has to read the CA.
  await chmod(folder, 0o755);
  makeTestCertificates(folder);
  project.provide('runFolder', folder);
  return () => rm(folder, { recursive: true, force: true });
}
