import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkout, launcher } from '../support/daemon-paths.ts';
import { nobody, runToExit } from '../support/daemon.ts';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs, skipUnless } from '../support/skip.ts';

/** Tells a plain user which part needs root, and how to see it. */
const closedToUser = / In the daemon:\n(.*\n)+ +memory +refused \(EACCES\)\n(.*\n)+.* and a daemon closed to you\n.*root sees into it: sudo .*node.* scripts\/demo\.ts\)$/m;

/** The demo finds the key where it is before it finds none elsewhere, streams, and fits a terminal. */
function expectShown(stdout: string): void {
  expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
  expect(stdout.match(/^ +\d+ \(\+\d+\.\d\)  response\./gm)).toHaveLength(8);
  expect(stdout).toMatch(/^ +environment +\d+ bytes read, 1 copy of the key\n +memory +\d+ MiB read, [1-9]\d* cop(y|ies) of the key\n   In the daemon:\n +arguments +\d+ bytes read, 0 copies/m);
  expect(stdout).toMatch(/\nYou have seen:\n( {3}.+\n){4,5}$/);
}

describe('the commands for a fresh clone', () => {
  test('npm ci && npm run demo', async () => {
    const demo = snippetIn('README.md', 'npm ci && npm run demo\n');
    expect(demo.code).toBe('npm ci && npm run demo\n');
    const { code, stdout, stderr } = await (await newMachine()).run(demo);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expectShown(stdout);
    expect(stdout).toMatch(process.getuid?.() === 0 ? /and 0 in the daemon$/m : closedToUser);
  });

  test('npm run demo, as a user who can see nothing of the daemon', async (context) => {
    needs(context, 'root and a build that other users can run');
    skipUnless(context, launcher.startsWith(checkout), 'needs a checkout that other users can read');
    const { code, stdout, stderr } = await runToExit({ launcher: 'node_modules/.bin/tsx', args: ['scripts/demo.ts'], stdin: 'ignore', user: nobody });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expectShown(stdout);
    expect(stdout).toMatch(closedToUser);
  });

  test('npm ci && npm test', async () => {
    const tests = snippetIn('README.md', 'npm ci && npm test\n');
    expect(tests.code).toBe('npm ci && npm test\n');
    expect((await (await newMachine()).run(tests)).code).toBe(0);
  });

  test('npm ci && npm run bench', async () => {
    const { code, stdout } = await (await newMachine()).run(snippetIn('scripts/bench/README.md', 'npm run bench'));
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Usage: npm run bench /);
  });
});

// The long suite runs them for real.
describe('the commands that change the machine', () => {
  test('install the package', async () => {
    const install = snippetIn('README.md', 'npm pack --silent');
    expect(install.code).toBe('npm ci && sudo npm install --global "$PWD/$(npm pack --silent)"\n');
    const machine = await newMachine();
    expect((await machine.run(install)).code).toBe(0);
    expect(readFileSync(join(machine.folder, 'sudo.log'), 'utf8')).toBe(`npm install --global ${machine.folder}/package.tgz\n`);
  });

  test('install the service', async () => {
    const machine = await newMachine();
    expect((await machine.run(snippetIn('scripts/systemd/README.md', 'systemctl enable'))).code).toBe(0);
    expect(readFileSync(join(machine.folder, 'sudo.log'), 'utf8')).toBe(
      `install -m 600 /dev/stdin /etc/openai-api-key < ${machine.key}\n` +
        `cp ${['service', 'socket'].map((kind) => `${machine.folder}/global/responses-api-proxy/scripts/systemd/responses-api-proxy.${kind}`).join(' ')} /etc/systemd/system/\n` +
        'systemctl enable --now responses-api-proxy\n',
    );
  });
});
