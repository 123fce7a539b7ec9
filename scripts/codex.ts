import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { runCommand } from './command.ts';
import type { CommandResult } from './command.ts';

export type FetchedCodex =
  | { readonly kind: 'fetched'; readonly command: string }
  /** Nothing to be tried here, and no fault of ours: the registry does not have it, or cannot be reached. */
  | { readonly kind: 'unavailable'; readonly reason: string };

export interface CodexRun {
  readonly command: string;
  /** An empty folder, in which Codex gets a home, a home of its own, and a place to work. */
  readonly folder: string;
  /** Where Codex connects to. */
  readonly port: number;
  /** The port that Codex names in its Host header. */
  readonly hostPort: number;
  /** What follows `codex exec` and its options: a prompt, or a command of its own. */
  readonly args: readonly string[];
  /** By default the one that Codex takes. */
  readonly model?: string;
  /** Further settings, as `-c` has them. */
  readonly config?: readonly string[];
  /** It may run commands, without its sandbox, which a container often cannot offer. Then it would ask for live searches, so it asks for none. */
  readonly runsCommands?: boolean;
  /** Its own provider, with `openai_base_url`, instead of one that is made for the daemon. */
  readonly isBuiltIn?: boolean;
  /** By default `OpenAI Proxy`. For one named `OpenAI`, Codex lets the upstream compact. */
  readonly providerName?: string;
  /** Codex may ask for a WebSocket first, as it does with its built-in provider. */
  readonly mayUseWebsocket?: boolean;
}

const fetchTimeoutMs = 300_000;
const versionTimeoutMs = 30_000;
const turnTimeoutMs = 60_000;

const absentCodes = new Set(['E404', 'ETARGET', 'ENOVERSIONS']);
const unreachableCodes = new Set([
  'ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ECONNRESET', 'ENETUNREACH', 'EHOSTUNREACH', 'ETIMEDOUT',
]);

/** Installs the Codex CLI from the npm registry into `folder`, about 400 MB. Throws if npm fails for a reason of its own. */
export async function fetchCodex(version: string, folder: string): Promise<FetchedCodex> {
  const name = `@openai/codex@${version}`;
  const npm = await runCommand('npm', [
    'install', '--prefix', folder, '--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--no-update-notifier',
    '--fetch-retries', '1', '--fetch-retry-mintimeout', '1000', name,
  ], { cwd: folder, env: process.env, timeoutMs: fetchTimeoutMs });
  if (npm.code !== 0) {
    const code = /^npm (?:ERR!|error) code (\S+)$/m.exec(npm.stderr)?.[1] ?? '';
    if (absentCodes.has(code)) return { kind: 'unavailable', reason: `the registry has no ${name}` };
    if (unreachableCodes.has(code)) return { kind: 'unavailable', reason: `the registry is out of reach (${code})` };
    throw new Error(`npm could not install ${name}: ${lastLines(npm.stderr) || 'it ran out of time'}`);
  }
  const command = join(folder, 'node_modules', '.bin', 'codex');
  const check = await runCommand(command, ['--version'], { cwd: folder, env: { PATH: process.env['PATH'] }, timeoutMs: versionTimeoutMs });
  if (check.code === 0) return { kind: 'fetched', command };
  // npm leaves out the build for this machine without a word where the registry does not have it.
  if (check.stderr.includes('Missing optional dependency')) {
    return { kind: 'unavailable', reason: `the registry has no build of ${name} for this machine` };
  }
  throw new Error(`the fetched Codex does not run: ${lastLines(check.stderr)}`);
}

/**
 * One turn of `codex exec` with the daemon as its model provider: no key, no proxy, nothing of the user's own.
 */
export async function runCodex(run: CodexRun): Promise<CommandResult> {
  const home = join(run.folder, 'home');
  const codexHome = join(run.folder, 'codex-home');
  const workplace = join(run.folder, 'work');
  for (const path of [home, codexHome, workplace]) mkdirSync(path, { recursive: true });
  const provider = `{ name='${run.providerName ?? 'OpenAI Proxy'}', base_url='http://127.0.0.1:${run.port}/v1', wire_api='responses', `
    + `supports_websockets=${run.mayUseWebsocket === true}, http_headers={ host='127.0.0.1:${run.hostPort}' } }`;
  const way = run.isBuiltIn === true
    ? [`openai_base_url='http://127.0.0.1:${run.hostPort}/v1'`]
    : [`model_providers.openai-proxy=${provider}`, 'model_provider=openai-proxy'];
  const settings = [...way, ...(run.runsCommands === true ? ["web_search='disabled'"] : []), 'check_for_update_on_startup=false', 'analytics.enabled=false', ...(run.config ?? [])];
  return runCommand(run.command, [
    'exec', '--skip-git-repo-check', ...(run.runsCommands === true ? ['--dangerously-bypass-approvals-and-sandbox'] : []),
    ...(run.model === undefined ? [] : ['--model', run.model]),
    ...settings.flatMap((setting) => ['-c', setting]),
    ...run.args,
  ], {
    cwd: workplace,
    // It insists on some key for its own provider; the daemon overwrites it.
    env: { PATH: process.env['PATH'], HOME: home, CODEX_HOME: codexHome, ...(run.isBuiltIn === true ? { CODEX_API_KEY: 'none' } : {}) },
    timeoutMs: turnTimeoutMs,
  });
}

/** The models that Codex knows by itself, also those that it does not show. */
export async function modelsOf(command: string, folder: string): Promise<string[]> {
  const { stdout } = await runCommand(command, ['debug', 'models'], {
    cwd: folder, env: { PATH: process.env['PATH'], HOME: folder, CODEX_HOME: folder }, timeoutMs: versionTimeoutMs,
  });
  return (JSON.parse(stdout) as { models: Array<{ slug: string }> }).models.map(({ slug }) => slug);
}

/** The end of what a command said, short enough for a message. */
export function lastLines(text: string): string {
  return text.trim().split('\n').slice(-8).join('\n');
}
