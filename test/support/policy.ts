import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratchFolder } from './scratch.ts';

/** The path of a policy file that says so. */
export function policyFile(policy: object | string): string {
  const file = join(scratchFolder(), 'policy.json');
  writeFileSync(file, typeof policy === 'string' ? policy : JSON.stringify(policy), { mode: 0o600 });
  return file;
}

/** For the daemon's command line. */
export function policyArgs(policy: object): readonly string[] {
  return ['--policy', policyFile(policy)];
}
