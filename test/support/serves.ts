import { expect } from 'vitest';
import { startDaemon, type Daemon, type DaemonOptions } from './daemon.ts';
import { ask } from './raw-client.ts';
import { answer, startUpstream } from './upstream.ts';

/** Starts the daemon and has it serve one request over TLS. */
export async function expectToServe(options: DaemonOptions): Promise<Daemon> {
  const upstream = await startUpstream({ answer: answer(200, '{"served":true}') });
  const daemon = await startDaemon({ ...options, args: [...upstream.args, ...(options.args ?? [])] });
  const response = await ask(daemon.port);
  expect([response.status, response.text()]).toEqual([200, '{"served":true}']);
  return daemon;
}
