import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { checkout } from './daemon-paths.ts';
import { runTool, type ToolResult } from './native-tools.ts';

/** What of npm's own environment leads to the registry; the rest tells it about the run that started these tests. */
const registrySettings = /^npm_config_(registry|cache|userconfig|globalconfig|cafile|proxy|https_proxy|noproxy)$/i;

const npmTimeoutMs = 120_000;

/** Codes of npm's that are no fault of ours: the registry does not have it, or is out of reach. */
const registryTrouble = /^npm (?:ERR!|error) code (E404|ETARGET|ENOVERSIONS|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|E5\d\d)$/m;

export interface NpmOptions {
  readonly cwd?: string;
  /** Variables that are added to this process's. */
  readonly env?: Readonly<Record<string, string>>;
  /** The npm-cli.js of another npm. */
  readonly cli?: string;
  /** The folder of another `node`, which is then the first on PATH. */
  readonly nodeFolder?: string;
  /** The umask it runs under. */
  readonly umask?: string;
}

/** Runs npm to its end, as if nobody had started the tests through npm. */
export function npm(args: readonly string[], { cwd = '/', env = {}, cli, nodeFolder, umask = '022' }: NpmOptions = {}): Promise<ToolResult> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name) || registrySettings.test(name));
  const path = nodeFolder === undefined ? process.env['PATH'] : `${nodeFolder}:${process.env['PATH'] ?? ''}`;
  return new Promise((resolve, reject) => {
    const child = execFile('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', ...(cli === undefined ? ['npm'] : ['node', cli]), ...args], {
      cwd,
      env: { ...Object.fromEntries(inherited), PATH: path, npm_config_update_notifier: 'false', npm_config_audit: 'false', npm_config_fund: 'false', ...env },
      timeout: npmTimeoutMs,
      maxBuffer: 16 * 1024 * 1024,
    }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
    child.stdin?.end();
  });
}

/** Why a run of npm that failed is to be skipped; undefined where it failed for a reason of its own. */
export function registryProblem({ code, stderr }: ToolResult): string | undefined {
  const problem = code === 0 ? null : registryTrouble.exec(stderr);
  return problem === null ? undefined : `needs the npm registry, which says ${problem[1]}`;
}

/** A copy of the sources in `folder`, with the checkout's node_modules: packing empties dist, which others are running from. */
export function copySources(folder: string): string {
  mkdirSync(folder, { recursive: true });
  const left = new Set(['.git', 'dist', 'node_modules', 'test']);
  for (const entry of readdirSync(checkout)) {
    if (!left.has(entry) && !entry.endsWith('.tgz')) cpSync(join(checkout, entry), join(folder, entry), { recursive: true });
  }
  symlinkSync(join(checkout, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

export interface Packed {
  readonly file: string;
  /** Where its content is unpacked. */
  readonly content: string;
  /** What npm and our scripts said. */
  readonly said: string;
}

/** Packs `sources` (`copySources`) into `folder`. */
export async function pack(sources: string, folder: string, options: NpmOptions = {}): Promise<Packed> {
  mkdirSync(folder, { recursive: true });
  const { code, stdout, stderr } = await npm(['pack', '--pack-destination', folder], { cwd: sources, ...options });
  const file = stdout.trim().split('\n').at(-1) ?? '';
  if (code !== 0 || !file.endsWith('.tgz')) throw new Error(`npm pack failed (${code}):\n${stdout}${stderr}`);
  const tarball = join(folder, file);
  await runTool('tar', ['-xf', tarball, '-C', folder]);
  return { file: tarball, content: join(folder, 'package'), said: stdout + stderr };
}

/** An installation with `npm install --global --prefix`. */
export class Installation {
  readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix;
  }

  get command(): string {
    return join(this.prefix, 'bin', 'responses-api-proxy');
  }

  get folder(): string {
    return join(this.prefix, 'lib', 'node_modules', 'responses-api-proxy');
  }

  get addon(): string {
    return join(this.folder, 'dist', 'native', `${process.arch}.node`);
  }

  /** A second one, as if it had been installed there. */
  copyTo(prefix: string): Installation {
    mkdirSync(dirname(prefix), { recursive: true });
    cpSync(this.prefix, prefix, { recursive: true, verbatimSymlinks: true });
    return new Installation(prefix);
  }
}

/** `npm install --global --prefix`, from a folder that is not the package's. The cache of `npm ci` saves most of the way to the registry. */
export async function installGlobally(tarball: string, prefix: string, args: readonly string[] = [], options: NpmOptions = {}): Promise<ToolResult & { installation: Installation }> {
  mkdirSync(prefix, { recursive: true });
  const result = await npm(['install', '--global', '--prefix', prefix, '--prefer-offline', ...args, tarball], options);
  return { ...result, installation: new Installation(prefix) };
}
