import { chmodSync, chownSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout, launcher } from '../support/daemon-paths.ts';
import { randomKey, startDaemon, type Daemon } from '../support/daemon.ts';
import { runTool } from '../support/native-tools.ts';
import { statusOf } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, freePort, startUpstream, type Upstream } from '../support/upstream.ts';

// What a container engine would do with the README's recipes, as far as it can be done without one.

const dockerfile = readFileSync(join(checkout, 'scripts/systemd/Dockerfile'), 'utf8');
const pod = readFileSync(join(checkout, 'scripts/systemd/pod.yaml'), 'utf8');

/** The one value of `pattern`'s group in a recipe, which is JSON there. */
function listIn(text: string, pattern: RegExp): string[] {
  const list = pattern.exec(text)?.[1];
  if (list === undefined) throw new Error(`${pattern} is not in the recipe`);
  return JSON.parse(list) as string[];
}

const keyFile = '/run/secrets/openai-api-key';

interface Container {
  readonly daemon: Daemon;
  readonly key: string;
  readonly upstream: Upstream;
  readonly user: { readonly uid: number; readonly gid: number };
  /** The machine's id of its process 1. */
  readonly pid: number;
}

/** Process 1 of a namespace, the image's user who has no account, no capabilities, a root that cannot be written, little memory to lock. */
async function startContainer(args: readonly string[], port: number): Promise<Container> {
  const [, uid, gid] = /^USER (\d+):(\d+)$/m.exec(dockerfile) ?? [];
  const user = { uid: Number(uid), gid: Number(gid) };
  const folder = scratchFolder();
  const key = randomKey();
  const file = join(folder, 'key');
  // As Kubernetes mounts it: root's, and readable for the group of the pod.
  writeFileSync(file, `${key}\n`);
  chmodSync(file, 0o440);
  chownSync(file, 0, user.gid);
  const bin = join(folder, 'bin');
  await runTool('sh', ['-c', 'mkdir "$1" && ln -s "$2" "$1/responses-api-proxy"', 'sh', bin, launcher]);

  const upstream = await startUpstream({ answer: answer(200, '{"served":true}') });
  const entrypoint = listIn(dockerfile, /^ENTRYPOINT (\[.*\])$/m).map((argument) => argument.replace(keyFile, file));
  expect(entrypoint.join(' ')).toContain(file);
  const daemon = await startDaemon({
    prefix: [
      'unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', 'mount -o remount,bind,ro / && exec "$@"', 'sh',
      'prlimit', '--memlock=65536',
      'setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all',
      'env', '-i', `PATH=${bin}:${process.env['PATH'] ?? ''}`,
    ],
    launcher: entrypoint[0] ?? '',
    args: [...entrypoint.slice(1), ...args.map((argument) => argument.replace(/^8787$/, String(port))), ...upstream.args],
    stdin: 'ignore',
    cwd: '/',
  });
  expect(daemon.port).toBe(port);
  const pid = Number(readFileSync(`/proc/${daemon.pid}/task/${daemon.pid}/children`, 'latin1').trim());
  expect(statusOf(pid, 'NSpid').split('\t').at(-1)).toBe('1');
  return { daemon, key, upstream, user, pid };
}

const tools = ['root and a build that other users can run', 'command unshare', 'command setpriv', 'command prlimit'] as const;

test('the image serves as process 1, and stops when it is told to', async (context) => {
  needs(context, ...tools);
  const { daemon, key, upstream, user, pid } = await startContainer(listIn(dockerfile, /^CMD (\[.*\])$/m), await freePort());
  expect(statusOf(pid, 'Uid').split('\t')).toEqual(Array(4).fill(String(user.uid)));
  expect(statusOf(pid, 'CapEff')).toBe('0000000000000000');
  const response = await ask(daemon.port);
  expect([response.status, response.text()]).toEqual([200, '{"served":true}']);
  expect(upstream.requests[0]?.headers).toContainEqual([expect.stringMatching(/^authorization$/i), `Bearer ${key}`]);
  // Nothing else, but that another user could change the checkout, where that is so.
  const lines = daemon.stderr.split('\n').filter((line) => !line.includes('who could then read the key'));
  expect(lines).toEqual([expect.stringMatching(/^responses-api-proxy: key in (memfd_secret|mlocked memory, which root can read); every user of this machine may use it \(see --allow-user\)$/), `responses-api-proxy listening on 127.0.0.1:${daemon.port}`, '']);
  process.kill(pid, 'SIGTERM');
  expect((await daemon.waitForExit()).code).toBe(0);
});

test('the sidecar is found healthy once it listens, and not before', async (context) => {
  needs(context, ...tools);
  const port = await freePort();
  const [command = '', ...args] = listIn(pod, /^\s+command: (\[.*\])$/m).map((argument) => argument.replace('8787', String(port)));
  expect(args.join(' ')).toContain(`:${port}/`);
  const node = command === 'node' ? process.execPath : command;
  expect((await runTool(node, args)).code).toBe(1);
  const { user } = await startContainer(listIn(pod, /^\s+args: (\[.*\])$/m), port);
  expect(await runTool(node, args, { user })).toEqual({ code: 0, stdout: '', stderr: '' });
});

test('the recipes agree with each other', () => {
  const port = '8787';
  expect(listIn(dockerfile, /^CMD (\[.*\])$/m)).toContain(port);
  expect(listIn(pod, /^\s+args: (\[.*\])$/m)).toContain(port);
  expect(pod).toContain(`http://127.0.0.1:${port}/v1`);
  expect(pod).toContain(`mountPath: ${dirname(keyFile)},`);
  // Kubernetes takes a number; what begins with 0 is octal to YAML 1.1 and decimal to YAML 1.2.
  expect(Number(/path: openai-api-key, mode: (\d+) /.exec(pod)?.[1])).toBe(0o440);
  expect(/^USER \d+:(\d+)$/m.exec(dockerfile)?.[1]).toBe(/fsGroup: (\d+)/.exec(pod)?.[1]);
});
