import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { launch, type Running } from '../support/daemon.ts';
import { runTool } from '../support/native-tools.ts';
import { asSocket, needsNetworkNamespaces, relayInto } from '../support/network-namespace.ts';
import { newMachine, systemUser, type Machine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';
import { freePort } from '../support/upstream.ts';

const docker = snippetIn('scripts/systemd/README.md', '--network container:');
const sshdMatch = snippetIn('scripts/systemd/README.md', 'Match User');
const allowUser = snippetIn('scripts/systemd/README.md', '--allow-user tunnel');
const sshForward = snippetIn('scripts/systemd/README.md', 'ssh -N -L');
const dockerfile = readFileSync(join(checkout, 'scripts/systemd/Dockerfile'), 'utf8');

const quoted = (words: readonly string[]): string => words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');

/** An agent: asks what OPENAI_BASE_URL leads to, as soon as something listens there, and prints what it is told. */
const agent = `
const url = process.env.OPENAI_BASE_URL + '/responses';
const request = { method: 'POST', headers: { 'content-type': 'application/json', authorization: 'Bearer ' + process.env.OPENAI_API_KEY }, body: '{"model":"gpt-5","input":"Say hello"}' };
for (;; await new Promise((resolve) => setTimeout(resolve, 20))) {
  try {
    const answer = await fetch(url, request);
    console.log(answer.status, await answer.text());
    break;
  } catch (error) {
    if (error.cause?.code !== 'ECONNREFUSED') throw error;
  }
}
`;

/** Resolves with what the agent was told. */
async function told(running: Running): Promise<{ status: number; text: string }> {
  const look = (): RegExpExecArray | null => /^(\d{3}) ([^]*\n)$/m.exec(running.stdout);
  await expect.poll(look, { message: `${running.stderr}` }).not.toBe(null);
  const [, status = '', text = ''] = look() ?? [];
  return { status: Number(status), text };
}

/** Whether something takes connections on a port of this namespace's loopback. */
async function listensHere(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false);
}

/**
 * As far as the README's two commands go: a container is a network namespace, a mount of its key, and the image's user;
 * `--network container:NAME` enters the first of them. The image is what the Dockerfile says.
 */
async function installDocker(machine: Machine): Promise<void> {
  const command = ['ENTRYPOINT', 'CMD'].flatMap((name) => JSON.parse(new RegExp(`^${name} (\\[.*\\])$`, 'm').exec(dockerfile)?.[1] ?? '[]') as string[]);
  const [, uid = '', gid = ''] = /^USER (\d+):(\d+)$/m.exec(dockerfile) ?? [];
  const key = join(machine.folder, 'openai-api-key');
  writeFileSync(key, `${machine.key}\n`);
  chownSync(key, Number(uid), Number(gid));
  chmodSync(key, 0o400);
  const socket = await asSocket(machine.standIn.port);
  const image = quoted(['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--bounding-set=-all', '--inh-caps=-all', process.execPath, relayInto(), String(machine.standIn.port), socket, ...command]);
  machine.install('docker', `#!/bin/sh
set -eu
test "$1" = run
shift
while :; do
  case $1 in
    --detach | --rm) ;;
    --name) name=$2; shift ;;
    --volume) from=\${2%%:*} to=\${2#*:}; shift ;;
    --network) joined=\${2#container:}; shift ;;
    --env) export "$2"; shift ;;
    *) break ;;
  esac
  shift
done
case $1 in
  responses-api-proxy:*)
    unshare --net --mount sh -c '
      ip link set lo up
      mount -t tmpfs tmpfs /run
      mkdir -p "\${2%/*}"
      touch "$2"
      mount --bind "$1" "$2"
      echo $$ > "$HOME/$3.pid.new"
      mv "$HOME/$3.pid.new" "$HOME/$3.pid"
      exec ${image.replaceAll("'", "'\\''")}
    ' sh "$from" "\${to%:ro}" "$name" &
    until test -e "$HOME/$name.pid"; do kill -0 $!; done
    ;;
  your-agent) exec nsenter --net="/proc/$(cat "$HOME/$joined.pid")/ns/net" ${quoted([process.execPath, '--input-type=module', '--eval', agent])} ;;
  *) exit 125 ;;
esac
`);
}

test('a container that shares the network namespace of the daemon\'s is served, and nobody else', async (context) => {
  needsNetworkNamespaces(context);
  needs(context, 'root and a build that other users can run', 'command setpriv', 'command mount');
  const machine = await newMachine();
  await installDocker(machine);
  const before = await listensHere(8787);
  const { status, text } = await told(machine.start(docker));
  expect([status, JSON.parse(text)]).toEqual([200, expect.objectContaining({ object: 'response', status: 'completed' })]);
  expect(machine.standIn.requests.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${machine.key}`]);
  // The same port of the machine is another one.
  expect(await listensHere(8787)).toBe(before);
});

/**
 * The host's sshd, real but for the way to it: `ssh` speaks to it over a pipe, from the VM's namespace into the host's.
 *
 * @returns the arguments of a `timeout` that runs ssh outside of the VM
 */
async function installSsh(machine: Machine, port: number, account: string): Promise<readonly string[]> {
  const [sshd, ssh, keygen] = (await Promise.all(['sshd', 'ssh', 'ssh-keygen'].map((name) => runTool('sh', ['-c', `command -v ${name}`])))).map(({ stdout }) => stdout.trim());
  const file = (name: string): string => join(machine.folder, name);
  for (const name of ['host_key', 'vm_key']) await runTool(keygen ?? '', ['-q', '-t', 'ed25519', '-N', '', '-f', file(name)]);
  const match = sshdMatch.code.replaceAll('8787', String(port)).replace('tunnel', account);
  writeFileSync(file('known_hosts'), `host.example ${readFileSync(file('host_key.pub'), 'utf8')}`);
  writeFileSync(file('sshd_config'), `HostKey ${file('host_key')}\nAuthorizedKeysFile ${file('vm_key.pub')}\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n${match}`);
  writeFileSync(file('ssh_config'), `Host host.example\n  ProxyCommand nsenter --net=/proc/${process.pid}/ns/net ${sshd} -i -f ${file('sshd_config')}\n  IdentityFile ${file('vm_key')}\n  UserKnownHostsFile ${file('known_hosts')}\n  BatchMode yes\n`);
  mkdirSync('/run/sshd', { recursive: true }); // where sshd has its empty folder
  machine.install('ssh', `#!/bin/sh
exec unshare --net sh -c '
  ip link set lo up
  echo $$ > "$HOME/vm.pid.new"
  mv "$HOME/vm.pid.new" "$HOME/vm.pid"
  exec "$@"
' sh ${ssh} -F '${file('ssh_config')}' "$@"
`);
  return ['10', ssh ?? '', '-F', file('ssh_config')];
}

test('a VM is served through ssh -L by an account that can do nothing else', async (context) => {
  needsNetworkNamespaces(context);
  needs(context, 'command ssh', 'command sshd', 'command ssh-keygen', 'command timeout');
  const machine = await newMachine();
  const port = await freePort();
  // It stands for `tunnel`: a user who may not log in.
  const { name: account } = await systemUser(context);
  const client = await installSsh(machine, port, account);
  const ssh = (...args: readonly string[]): ReturnType<typeof runTool> => runTool('timeout', [...client, ...args]);
  const instead = { 8787: String(port), tunnel: account };
  const daemon = machine.start(allowUser, { instead });
  await daemon.waitForStderr(/^responses-api-proxy listening on /m);

  const tunnel = machine.start(sshForward, { instead });
  await expect.poll(() => existsSync(join(machine.folder, 'vm.pid')) || tunnel.exit).toBe(true);
  const vm = `/proc/${readFileSync(join(machine.folder, 'vm.pid'), 'utf8').trim()}/ns/net`;
  const inVm = launch({
    launcher: 'nsenter',
    args: [`--net=${vm}`, process.execPath, '--input-type=module', '--eval', agent],
    stdin: 'ignore',
    env: { OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1`, OPENAI_API_KEY: 'none' },
  });
  const { status, text } = await told(inVm);
  expect([status, JSON.parse(text)]).toEqual([200, expect.objectContaining({ object: 'response', status: 'completed' })]);
  expect(machine.standIn.requests.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${machine.key}`]);

  // This test is root, not the account.
  const other = await fetch(`http://127.0.0.1:${port}/v1/responses`, { method: 'POST', body: '{}' });
  expect([other.status, await other.text()]).toEqual([403, expect.stringContaining('user_not_allowed')]);
  expect(await ssh('-W', `127.0.0.1:${machine.standIn.port}`, `${account}@host.example`)).toMatchObject({ code: 255, stderr: expect.stringContaining('administratively prohibited') });
  expect(await ssh('-N', '-o', 'ExitOnForwardFailure=yes', '-R', '127.0.0.1:0:127.0.0.1:1', `${account}@host.example`)).toMatchObject({ code: 255, stderr: expect.stringContaining('remote port forwarding failed') });
  const way = await freePort();
  const toSocket = launch({ launcher: 'timeout', args: [...client, '-N', '-L', `127.0.0.1:${way}:${await asSocket(machine.standIn.port)}`, `${account}@host.example`], stdin: 'ignore' });
  await expect.poll(() => fetch(`http://127.0.0.1:${way}/`).then(() => 'answered', ({ cause }: { cause: { code?: string } }) => cause.code)).not.toBe('ECONNREFUSED');
  await toSocket.waitForStderr(/open failed/);
  for (const command of [[`${account}@host.example`, 'id'], ['-s', `${account}@host.example`, 'sftp']]) {
    expect(await ssh(...command)).toMatchObject({ code: 1, stdout: expect.stringContaining('not available') });
  }
});
