import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cleanUp } from './cleanup.ts';
import { runTool, type ToolResult } from './native-tools.ts';
import { scratchFolder } from './scratch.ts';
import { Changing, Once, within } from './wait.ts';

const script = fileURLToPath(new URL('sealed-systemd.sh', import.meta.url));
const units = '/usr/lib/systemd/system';

/** Why systemd cannot be booted here; undefined where it can. */
export function sealedSystemdProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  if (!existsSync('/usr/lib/systemd/systemd')) return 'needs systemd (Debian: systemd)';
  const trial = 'mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root /mnt/cgroup && mount -t cgroup2 cgroup2 /mnt/cgroup && '
    + 'mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root && mkdir /mnt/cgroup/trial-$$ && rmdir /mnt/cgroup/trial-$$';
  const { status, stderr } = spawnSync('unshare', ['--mount', '--pid', '--cgroup', '--fork', '--propagation', 'private', 'sh', '-c', trial], { encoding: 'utf8' });
  return status === 0 ? undefined : `needs a machine that lets root mount overlays and make cgroups: ${stderr.trim().split('\n').at(-1) ?? ''}`;
}

/** The machine's systemd, as process 1 of a world of its own (`sealed-systemd.sh`). It ends with the test. */
export class SealedSystemd {
  /** What is /shared in there. */
  readonly shared: string;
  readonly #init: number;

  private constructor(shared: string, init: number) {
    this.shared = shared;
    this.#init = init;
  }

  /**
   * Boots it and runs `setUp` in it, a shell script, as root.
   *
   * @param services unit files by name; none of them is started
   */
  static async boot(services: Readonly<Record<string, string>>, setUp: string, prepare: (shared: string) => void): Promise<SealedSystemd> {
    const folder = scratchFolder();
    const shared = join(folder, 'shared');
    mkdirSync(join(folder, 'units'));
    mkdirSync(shared);
    prepare(shared);
    const all: Record<string, string> = {
      ...services,
      'default.target': '[Unit]\nRequires=systemd-journald.service\n',
      ...Object.fromEntries(['basic', 'sysinit', 'shutdown', 'sockets'].map((name) => [`${name}.target`, `[Unit]\nDescription=${name}\n`])),
    };
    for (const [name, text] of Object.entries(all)) writeFileSync(join(folder, 'units', name), text);
    for (const name of ['systemd-journald.service', 'systemd-journald.socket']) copyFileSync(join(units, name), join(folder, 'units', name));

    const child = spawn('sh', [script, folder], { stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    const output = new Changing();
    const ended = new Once<void>();
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        output.changed();
      });
    }
    child.once('close', () => {
      ended.resolve();
      output.changed();
    });
    child.stdin.on('error', () => {});
    cleanUp(async () => {
      child.stdin.end();
      await within(ended.promise, `the end of the sealed systemd, which said:\n${said}`);
    });
    const look = (): true | undefined => {
      if (ended.done) throw new Error(`it did not boot:\n${said}`);
      return /^sealed$/m.test(said) || undefined;
    };
    await output.when(look, () => `systemd to boot, which said:\n${said}`);
    const system = new SealedSystemd(shared, processOneBelow(child.pid ?? 0));
    await system.#whenReady();
    const { code, stderr } = await system.run('sh', '-euc', setUp);
    if (code !== 0) throw new Error(`setting it up failed:\n${stderr}`);
    return system;
  }

  /** Runs a command in there to its end, as root. */
  run(command: string, ...args: readonly string[]): Promise<ToolResult> {
    const namespaces = ['--mount', '--pid', '--ipc', '--uts', '--cgroup'];
    return runTool('nsenter', [`--target=${this.#init}`, ...namespaces, '--root', '--wd=/', 'env', '-i', 'PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', command, ...args]);
  }

  systemctl(...args: readonly string[]): Promise<ToolResult> {
    return this.run('systemctl', ...args);
  }

  /** Properties of a unit: `show('x.service', 'MainPID')`. */
  async show<Name extends string>(unit: string, ...names: readonly Name[]): Promise<Record<Name, string>> {
    const { stdout } = await this.systemctl('show', unit, ...names.map((name) => `--property=${name}`));
    return Object.fromEntries(stdout.trim().split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)])) as Record<Name, string>;
  }

  /** What a unit has logged, without times. */
  async journal(unit: string): Promise<string> {
    await this.run('journalctl', '--sync');
    return (await this.run('journalctl', '--unit', unit, '--output=cat', '--no-pager')).stdout;
  }

  /** The machine's process id of one in there. */
  outerPid(inner: number): number {
    for (const entry of readdirSync('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      try {
        const ids = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${entry}/status`, 'latin1'))?.[1]?.split('\t') ?? [];
        if (ids.at(-1) === String(inner) && ids.length > 1 && namespaceOf(Number(entry)) === namespaceOf(this.#init)) return Number(entry);
      } catch {
        // It has ended.
      }
    }
    throw new Error(`process ${inner} is not there`);
  }

  async #whenReady(): Promise<void> {
    const { stdout, stderr } = await this.run('sh', '-c', 'tries=200; until systemctl --quiet is-active default.target || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 0.05; done; systemctl is-active default.target');
    if (stdout.trim() !== 'active') throw new Error(`systemd did not come up: ${stdout}${stderr}`);
  }
}

function namespaceOf(pid: number): string {
  return spawnSync('readlink', [`/proc/${pid}/ns/pid`], { encoding: 'utf8' }).stdout;
}

/** The descendant of `pid` that is process 1 somewhere. */
function processOneBelow(pid: number): number {
  for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ')) {
    if (child === '') continue;
    if (/^NSpid:\s+\d+\t1$/m.test(readFileSync(`/proc/${child}/status`, 'latin1'))) return Number(child);
    const found = processOneBelow(Number(child));
    if (found !== 0) return found;
  }
  return 0;
}

/** Copies a file or folder to where it is /shared/NAME. */
export function share(shared: string, source: string, name: string): void {
  cpSync(source, join(shared, name), { recursive: true, verbatimSymlinks: true });
}
