import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { cleanUp } from './cleanup.ts';
import { scratchFolder } from './scratch.ts';

/** The reading end of a pipe. Until `end`, it has a writer who may still write. */
export interface Pipe {
  readonly descriptor: number;
  /** Has another process run a shell script whose output goes into the pipe, and which `what` is `$1` to. */
  writeBy(script: string, what: string): void;
  end(): void;
}

/** A real pipe that holds `content` already: at most 64 KiB. */
export function pipeWith(content: string | Uint8Array, { isNonBlocking = false } = {}): Pipe {
  const path = join(scratchFolder(), 'pipe');
  execFileSync('mkfifo', [path]);
  const writer = openSync(path, 'r+');
  const descriptor = openSync(path, constants.O_RDONLY | (isNonBlocking ? constants.O_NONBLOCK : 0));
  cleanUp(() => closeSync(descriptor));
  let isOpen = true;
  const end = (): void => {
    if (isOpen) closeSync(writer);
    isOpen = false;
  };
  cleanUp(end);
  for (let bytes = Buffer.from(content); bytes.length > 0;) bytes = bytes.subarray(writeSync(writer, bytes));
  const writeBy = (script: string, what: string): void => {
    const child = spawn('sh', ['-c', script, 'sh', what], { stdio: ['ignore', writer, 'inherit'] });
    cleanUp(() => child.kill('SIGKILL'));
  };
  return { descriptor, writeBy, end };
}
