import { chmodSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { inject } from 'vitest';

/** A new empty folder (mode 0755) inside this run's temporary folder, which is removed when the run ends. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(inject('runFolder'), 'scratch-'));
  chmodSync(folder, 0o755);
  return folder;
}
