import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';

describe('the commands for a fresh clone', () => {
  test('npm ci && npm run demo', async () => {
    const demo = snippetIn('README.md', 'npm ci && npm run demo\n');
    expect(demo.code).toBe('npm ci && npm run demo\n');
    const exit = await (await newMachine()).start(demo).waitForExit();
    expect(exit.stderr + exit.stdout).toContain('response.completed');
    expect(exit.code).toBe(0);
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
