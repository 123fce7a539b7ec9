import { chmodSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { checkout } from '../support/daemon-paths.ts';
import { randomKey, startDaemon } from '../support/daemon.ts';
import { crowd } from '../support/inherited-socket.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { copySources, installGlobally, pack, registryProblem, type Installation } from '../support/npm.ts';
import { nodeOfVersion } from '../support/node-versions.ts';
import { lockedAreasOf, statusOf } from '../support/process.ts';
import { ask, connect } from '../support/raw-client.ts';
import { snippetIn, tableIn, textOf } from '../support/readme.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SealedSystemd, sealedSystemdProblem, share } from '../support/sealed-systemd.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { answer, freePort, startUpstream, type Upstream } from '../support/upstream.ts';

const name = 'responses-api-proxy.service';
const socketName = 'responses-api-proxy.socket';
const [unit, socketUnit] = [name, socketName].map((file) => readFileSync(join(checkout, 'scripts', 'systemd', file), 'utf8')) as [string, string];
const bootTimeoutMs = 60_000;

let installation: Installation;
let problem = sealedSystemdProblem();

beforeAll(async () => {
  if (problem !== undefined) return;
  const packed = await pack(copySources(join(scratchFolder(), 'sources')), scratchFolder());
  const result = await installGlobally(packed.file, join(scratchFolder(), 'prefix'));
  problem = registryProblem(result);
  installation = result.installation;
}, 150_000);

beforeEach((context) => skipUnless(context, problem === undefined, problem ?? ''));

/** A machine with the package and the service installed, and the key where the unit says. */
class Machine {
  readonly key = randomKey();
  readonly port: number;
  readonly system: SealedSystemd;
  readonly upstream: Upstream;

  constructor(key: string, port: number, system: SealedSystemd, upstream: Upstream) {
    this.key = key;
    this.port = port;
    this.system = system;
    this.upstream = upstream;
  }

  /** @param edit what the administrator changes in the unit */
  static async boot({ edit = (text: string) => text, flags = '', node = process.execPath, setUp = '' } = {}): Promise<Machine> {
    const key = randomKey();
    const port = await freePort();
    const upstream = await startUpstream({ answer: answer(200, '{"served":true}') });
    const ours = unit.replaceAll('  --server-info', `  --upstream-url ${upstream.url} --upstream-ca /shared/ca.pem ${flags} --server-info`);
    const ourSocket = socketUnit.replace(':8787', `:${port}`);
    expect(ours).not.toBe(unit);
    expect(ourSocket).not.toBe(socketUnit);
    const system = await SealedSystemd.boot({ [name]: edit(ours), [socketName]: ourSocket }, `
      cp -R /shared/prefix/. /usr/local/
      rm -f /usr/local/bin/node
      ln -s /shared/node /usr/local/bin/node
      install -m 600 /shared/key /etc/openai-api-key
      ${setUp}
      systemctl daemon-reload
    `, (shared) => {
      share(shared, installation.prefix, 'prefix');
      share(shared, node, 'node');
      share(shared, caFile(), 'ca.pem');
      chmodSync(join(shared, 'ca.pem'), 0o644);
      writeFileSync(join(shared, 'key'), `${key}\n`, { mode: 0o600 });
    });
    return new Machine(key, port, system, upstream);
  }

  /** Starts the service, and its socket with it. Once `systemctl start` is done, clients can connect. */
  async start(): Promise<void> {
    const { code, stderr } = await this.system.systemctl('start', name);
    expect(code, `${stderr}${await this.system.journal(name)}`).toBe(0);
  }

  async pid(): Promise<number> {
    return this.system.outerPid(Number((await this.system.show(name, 'MainPID')).MainPID));
  }

  async expectToServe(): Promise<void> {
    const before = this.upstream.requests.length;
    const response = await ask(this.port);
    expect([response.status, response.text()]).toEqual([200, '{"served":true}']);
    expect(this.upstream.requests[before]?.headers.filter(([field]) => field.toLowerCase() === 'authorization').map(([, value]) => value)).toEqual([`Bearer ${this.key}`]);
  }
}

describe('under a real systemd', () => {
  test('the README\'s commands, as they are, install and start it', { timeout: bootTimeoutMs }, async () => {
    const key = randomKey();
    const port = await freePort();
    const install = snippetIn('scripts/systemd/README.md', 'systemctl enable');
    // The sealed systemd reads units from /run/units alone, so that is where /etc/systemd/system has to lead.
    const system = await SealedSystemd.boot({ 'multi-user.target': '[Unit]\nDescription=multi-user\n' }, `
      cp -R /shared/prefix/. /usr/local/
      sed -i 's/:8787/:${port}/' /usr/local/lib/node_modules/responses-api-proxy/scripts/systemd/${socketName}
      rm -f /usr/local/bin/node
      ln -s /shared/node /usr/local/bin/node
      mount --bind /run/units /etc/systemd/system
      printf '#!/bin/sh\nexec "$@"\n' > /usr/local/bin/sudo
      printf '#!/bin/sh\necho /usr/local/lib/node_modules\n' > /usr/local/bin/npm
      chmod 755 /usr/local/bin/sudo /usr/local/bin/npm
    `, (shared) => {
      share(shared, installation.prefix, 'prefix');
      share(shared, process.execPath, 'node');
    });
    expect(await system.run('env', `OPENAI_API_KEY=${key}`, 'sh', '-euc', install.code)).toMatchObject({ code: 0 });
    expect((await system.run('cat', '/etc/openai-api-key')).stdout).toBe(`${key}\n`);
    expect((await system.run('stat', '--format=%a %U', '/etc/openai-api-key')).stdout).toBe('600 root\n');
    expect(await system.show(name, 'ActiveState', 'UnitFileState')).toEqual({ ActiveState: 'active', UnitFileState: expect.stringMatching(/^enabled/) });
    expect((await ask(port, { target: '/v1/models' })).text()).toContain('endpoint_not_allowed');
  });

  test('it serves, as a user of its own without privileges, with the key where nobody can read it', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot();
    await machine.start();
    await machine.expectToServe();

    const pid = await machine.pid();
    const [real, effective] = statusOf(pid, 'Uid').split('\t').map(Number);
    expect(real).toBe(effective);
    expect(real, 'the range of DynamicUser').toSatisfy((uid: number) => uid >= 61_184 && uid <= 65_519);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect([set, statusOf(pid, set)]).toEqual([set, '0000000000000000']);
    expect([statusOf(pid, 'NoNewPrivs'), statusOf(pid, 'Seccomp')]).toEqual(['1', '2']);
    expect(readFileSync(`/proc/${pid}/limits`, 'latin1')).toMatch(/^Max locked memory +65536 +65536 /m);
    expect(readFileSync(`/proc/${pid}/limits`, 'latin1')).toMatch(/^Max core file size +0 +0 /m);
    // The same kind of memory as without a filter of system calls: memfd_secret where the kernel has it.
    const plain = await startDaemon();
    const kinds = (process: number): boolean[] => lockedAreasOf(process).map((area) => area.name.includes('secretmem'));
    expect(kinds(pid)).toEqual(kinds(plain.pid));
    expect(readFileSync(`/proc/${pid}/environ`, 'latin1')).not.toContain('CREDENTIALS_DIRECTORY');

    // Its clients can read where it is; nobody else can read the key.
    const info = `/proc/${pid}/root/run/responses-api-proxy/server-info.json`;
    expect(JSON.parse(readFileSync(info, 'utf8'))).toMatchObject({ port: machine.port });
    expect([statSync(info).mode & 0o777, statSync(join(info, '..')).mode & 0o777]).toEqual([0o644, 0o755]);
    const credential = await machine.system.run('setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', 'cat', `/run/credentials/${name}/openai-api-key`);
    expect(credential).toMatchObject({ code: 1, stdout: '' });
    const journal = await machine.system.journal(name);
    expect(journal).toContain(`responses-api-proxy listening on 127.0.0.1:${machine.port}\n`);
    expectNoPieceOf(machine.key, journal);
  });

  test('the first client starts it, and finds it on the port of the socket', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot();
    expect(await machine.system.systemctl('start', socketName)).toMatchObject({ code: 0 });
    expect(await machine.system.show(name, 'ActiveState', 'MainPID')).toEqual({ ActiveState: 'inactive', MainPID: '0' });
    await machine.expectToServe();
    const { MainPID } = await machine.system.show(name, 'MainPID');
    await machine.start(); // joins the start that is under way: ExecStartPost may not have seen yet what the client has
    expect(await machine.system.show(name, 'ActiveState', 'MainPID')).toEqual({ ActiveState: 'active', MainPID });
  });

  test.for([
    ['a new connection for each request', false],
    ['kept connections', true],
  ] as const)('five restarts under load: no connection is refused or lost, each exit is 0: %s', async ([, keepsConnections]) => {
    // Not from the unit's properties: the next client starts it again, which resets them.
    const noteEnd = "ExecStopPost=/bin/sh -c 'echo ended: $$SERVICE_RESULT $$EXIT_STATUS'";
    const machine = await Machine.boot({ edit: (text) => text.replace(/^Type=exec$/m, (line) => `${line}\n${noteEnd}`) });
    await machine.start();
    await machine.expectToServe();
    const clients = crowd(machine.port, { keepsConnections });
    for (let restart = 0; restart < 5; restart++) {
      const before = clients.answered;
      await expect.poll(() => clients.answered, { interval: 20 }).toBeGreaterThan(before + 100);
      expect(await machine.system.systemctl('stop', name)).toMatchObject({ code: 0 });
      await machine.start();
    }
    expect(await clients.stop()).toEqual({});
    expect((await machine.system.journal(name)).match(/^ended: .*/gm)).toEqual(Array.from({ length: 5 }, () => 'ended: success 0'));
  });

  test('the port stays guarded while the service cannot start, though clients wait for it', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot({ flags: '--nonsense' });
    expect(await machine.system.systemctl('start', socketName)).toMatchObject({ code: 0 });
    await connect(machine.port);
    await expect.poll(async () => (await machine.system.journal(name)).match(/unknown flag --nonsense/g)?.length, { interval: 200 }).toBeGreaterThan(5);
    expect(await machine.system.show(socketName, 'ActiveState')).toEqual({ ActiveState: expect.stringMatching(/^active$/) });
    const intruder = net.createServer();
    const error = await new Promise<NodeJS.ErrnoException>((resolve) => intruder.once('error', resolve).listen(machine.port, '127.0.0.1'));
    expect(error.code).toBe('EADDRINUSE');
  });

  test('it stops in order and leaves nothing behind', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot();
    await machine.start();
    await machine.expectToServe(); // before it has its listeners, SIGTERM just ends it
    expect(await machine.system.systemctl('stop', name)).toMatchObject({ code: 0 });
    expect(await machine.system.show(name, 'ActiveState', 'Result', 'ExecMainStatus', 'NRestarts')).toEqual({ ActiveState: 'inactive', Result: 'success', ExecMainStatus: '0', NRestarts: '0' });
    expect((await machine.system.run('ls', '/run/responses-api-proxy')).code).not.toBe(0);
    expect((await machine.system.run('ls', `/run/credentials/${name}`)).code).not.toBe(0);
  });

  test('the rows that stop it and remove it: no client starts it again', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot();
    for (const action of ['stop it', 'remove it']) {
      await machine.start();
      await machine.expectToServe();
      const [, row = ''] = tableIn('scripts/systemd/README.md', 'The service').find(([what]) => what === action) ?? [];
      const [, command = ''] = /^`(systemctl [^`]+)`/.exec(row) ?? [];
      expect(await machine.system.run('sh', '-euc', command)).toMatchObject({ code: 0 });
      await expect(ask(machine.port)).rejects.toThrow('ECONNREFUSED');
      expect(await machine.system.show(name, 'ActiveState')).toEqual({ ActiveState: 'inactive' });
    }
  });

  test.for([['an empty key', '', 'no key: '], ['a key in quotes', '\'"sk-1"\'', 'the key is in quotes'], ['a flag that is not there', 'sk-1', 'unknown']])('with %s the start fails, and the journal says why', { timeout: bootTimeoutMs }, async ([what, content, reason = '']) => {
    const machine = await Machine.boot({ setUp: `printf %s ${content} >/etc/openai-api-key`, flags: what === 'a flag that is not there' ? '--no-such-flag' : '' });
    expect((await machine.system.systemctl('start', name)).code).not.toBe(0);
    const journal = await machine.system.journal(name);
    expect(journal).toContain(reason);
    expect(journal).not.toContain('No such process'); // which only the unit's own shell would say
    expect(await machine.system.show(name, 'ActiveState', 'NRestarts')).toEqual({ ActiveState: 'failed', NRestarts: '0' });
  });

  test('without the file of the key its status is the one that the README names', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot({ setUp: 'rm /etc/openai-api-key' });
    expect((await machine.system.systemctl('start', name)).code).not.toBe(0);
    const [, status] = /\*\*status (\d+)\/CREDENTIALS\*\*/.exec(textOf('scripts/systemd/README.md')) ?? [];
    expect(await machine.system.show(name, 'ExecMainStatus')).toEqual({ ExecMainStatus: status });
  });

  test('a crash starts it again, on the same port', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot();
    await machine.start();
    const before = await machine.pid();
    process.kill(before, 'SIGKILL');
    await expect.poll(() => machine.system.show(name, 'NRestarts', 'ActiveState'), { interval: 100 }).toEqual({ NRestarts: '1', ActiveState: 'active' });
    expect(await machine.pid()).not.toBe(before);
    await machine.expectToServe();
  });

  test.for([
    ['wrong arguments', '--nonsense', '2'],
    ['a key that cannot be locked', '', '3'],
  ] as const)('%s: it is not started again', { timeout: bootTimeoutMs }, async ([what, flags, status]) => {
    const machine = await Machine.boot({
      flags,
      edit: (text) => what === 'wrong arguments' ? text : text.replace('LimitMEMLOCK=64K', 'LimitMEMLOCK=0').replace(/^(SystemCallFilter=@system-service) memfd_secret$/m, '$1'),
    });
    await machine.system.systemctl('start', name);
    await expect.poll(() => machine.system.show(name, 'ActiveState', 'ExecMainStatus', 'NRestarts'), { interval: 50 })
      .toEqual({ ActiveState: 'failed', ExecMainStatus: status, NRestarts: '0' });
    expect(await machine.system.journal(name)).toMatch(/^hint: /m);
  });

  test('--allow-user tells users apart', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot({ flags: '--allow-user nobody' });
    await machine.start();
    expect((await ask(machine.port)).text()).toContain('user_not_allowed');
    const other = await Machine.boot({ flags: '--allow-user root' });
    await other.start();
    await other.expectToServe();
  });

  test('a token comes by a second credential', { timeout: bootTimeoutMs }, async () => {
    const token = 'a-token-of-this-test-0123456789abcdef';
    const machine = await Machine.boot({
      flags: '--client-token-file %d/client-token',
      setUp: `printf '%s\\n' ${token} > /etc/responses-api-proxy-token; chmod 600 /etc/responses-api-proxy-token`,
      edit: (text) => text.replace(/^Type=exec$/m, '$&\nLoadCredential=client-token:/etc/responses-api-proxy-token'),
    });
    await machine.start();
    expect((await ask(machine.port)).status).toBe(401);
    expect((await ask(machine.port, { headers: [['authorization', `Bearer ${token}`]] })).status).toBe(200);
  });

  test('the key comes from an encrypted credential', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot({
      setUp: 'mkdir -p /etc/credstore.encrypted; systemd-creds encrypt --with-key=host --name=openai-api-key /etc/openai-api-key /etc/credstore.encrypted/openai-api-key; rm /etc/openai-api-key',
      edit: (text) => text.replace(/^LoadCredential=openai/m, '#$&').replace(/^#(LoadCredentialEncrypted=)/m, '$1'),
    });
    await machine.start();
    await machine.expectToServe();
  });

  test('with a policy and an audit log, which logrotate renames and a reload opens again', { timeout: bootTimeoutMs }, async (context) => {
    needs(context, 'command logrotate');
    const machine = await Machine.boot({
      setUp: `
        echo '{"limits":{"requests_per_minute":100}}' > /etc/responses-api-proxy-policy.json
        chmod 600 /etc/responses-api-proxy-policy.json
        cp /shared/prefix/lib/node_modules/responses-api-proxy/scripts/systemd/responses-api-proxy.logrotate /etc/logrotate.d/responses-api-proxy
      `,
      edit: (text) => text.replace(/^#(LoadCredential=policy:|ExecStart=|  --)/gm, '$1'),
    });
    await machine.start();
    await machine.expectToServe();
    const folder = `/proc/${await machine.pid()}/root/var/log/private/responses-api-proxy`;
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const log = join(folder, 'audit.jsonl');
    const before = readFileSync(log, 'utf8');
    expect(before).toContain('"decision":"allowed"');

    for (const rotation of [1, 2]) {
      const rotated = await machine.system.run('logrotate', '--force', '--verbose', '/etc/logrotate.d/responses-api-proxy');
      expect(rotated.code, rotated.stderr).toBe(0);
      expect(rotated.stderr).not.toMatch(/^error:/m);
      await expect.poll(() => readdirSync(folder)).toEqual(rotation === 1 ? ['audit.jsonl', 'audit.jsonl.1'] : ['audit.jsonl', 'audit.jsonl.1', 'audit.jsonl.2.gz']);
      await machine.expectToServe();
      expect(readFileSync(log, 'utf8')).toContain('"decision":"allowed"');
      if (rotation === 1) expect(readFileSync(`${log}.1`, 'utf8')).toBe(before);
    }
    expect(statSync(log).mode & 0o777).toBe(0o600);
    expect(await machine.system.show(name, 'NRestarts', 'ActiveState')).toEqual({ NRestarts: '0', ActiveState: 'active' });
  });

  test('a reload does no harm where there is nothing to open again, and the journal knows the name', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot();
    await machine.start();
    const before = await machine.pid();
    expect(await machine.system.systemctl('reload', name)).toMatchObject({ code: 0, stderr: '' });
    await machine.expectToServe();
    expect(await machine.pid()).toBe(before);
    await machine.system.run('journalctl', '--sync');
    expect((await machine.system.run('journalctl', '--identifier=responses-api-proxy', '--output=cat', '--no-pager')).stdout).toContain('listening on');
  });

  test.for([20, 22, 24, 26])('all that V8 of Node %i does is allowed', async (major, context) => {
    const node = await nodeOfVersion(major);
    if ('missing' in node) return context.skip(node.missing);
    const machine = await Machine.boot({ node: node.path });
    await machine.start();
    // Enough for the optimising compiler to have its turn.
    for (let count = 0; count < 500; count++) await machine.expectToServe();
    expect(await machine.system.journal(name)).not.toMatch(/^responses-api-proxy: (?!key in )/m);
  });

  test('what is said about StandardInput is true: it is opened before the credentials are there', { timeout: bootTimeoutMs }, async () => {
    const command = /^ExecStart=\/bin\/sh -c .* sh \\$/m;
    const machine = await Machine.boot({ edit: (text) => text.replace('Restart=on-abnormal', 'Restart=no').replace(command, 'StandardInput=file:%d/openai-api-key\nExecStart=responses-api-proxy \\') });
    await machine.system.systemctl('start', name);
    const exitOfStdin = '208';
    expect(await machine.system.show(name, 'ActiveState', 'ExecMainStatus')).toEqual({ ActiveState: 'failed', ExecMainStatus: exitOfStdin });
  });

  test('what is said about V8 is true: without memory that is written and executed, node ends', { timeout: bootTimeoutMs }, async () => {
    const machine = await Machine.boot({ edit: (text) => text.replace('Restart=on-abnormal', 'Restart=no').replace('LockPersonality=yes', 'MemoryDenyWriteExecute=yes') });
    await machine.system.systemctl('start', name);
    await expect.poll(() => machine.system.show(name, 'ActiveState', 'Result'), { interval: 50 })
      .toMatchObject({ ActiveState: 'failed', Result: expect.stringMatching(/signal|core-dump|exit-code/) });
  });
});
