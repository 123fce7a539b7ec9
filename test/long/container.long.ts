import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { randomKey } from '../support/daemon.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { copySources } from '../support/npm.ts';
import { ask } from '../support/raw-client.ts';
import { snippetIn } from '../support/readme.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SealedPodman } from '../support/sealed-podman.ts';
import { skipUnless } from '../support/skip.ts';
import { answer, freePort, startUpstream } from '../support/upstream.ts';

const testTimeoutMs = 600_000;
const image = 'responses-api-proxy:0.1.0';

const dockerfile = 'scripts/systemd/Dockerfile';

test('the Dockerfile as it stands makes an image that serves, with a key that only its user can read', { timeout: testTimeoutMs }, async (context) => {
  const problem = await SealedPodman.problem();
  skipUnless(context, problem === undefined, problem ?? '');
  const sources = copySources(join(scratchFolder(), 'sources'));
  const key = randomKey();
  const keyFile = join(sources, 'openai-api-key');
  const commands = snippetIn('scripts/systemd/README.md', 'docker build').code;
  const script = `cd "$1"; docker() { echo "$*"; }; sudo() { "$@"; }\n${commands}`;
  expect(await runTool('env', [`OPENAI_API_KEY=${key}`, 'sh', '-euc', script, 'sh', sources])).toEqual({ code: 0, stdout: `build --tag ${image} --file ${dockerfile} .\n`, stderr: '' });
  expect(readFileSync(keyFile, 'utf8')).toBe(`${key}\n`);

  const podman = new SealedPodman();
  await podman.importBase('docker.io/library/node:24-slim');
  const built = await podman.build(['--tag', image, '--file', join(sources, dockerfile)], sources);
  const trouble = /npm error code (E\w+|ENOTFOUND)/.exec(built.stderr + built.stdout)?.[1];
  skipUnless(context, trouble === undefined, `needs the npm registry, which says ${trouble ?? ''}`);
  expect(built.code, built.stderr).toBe(0);

  // What is not for the image does not even reach the stage that builds it.
  expect((await podman.build(['--target', 'build', '--tag', 'stage', '--file', join(sources, dockerfile)], sources)).code).toBe(0);
  const inContext = (await podman.run(['--rm', '--network=none'], 'stage', 'ls', '-A', '/src')).stdout.split('\n');
  expect(inContext).toContain('package.json');
  expect(inContext.filter((entry) => ['openai-api-key', '.git', 'test'].includes(entry))).toEqual([]);

  const upstream = await startUpstream({ answer: answer(200, '{"served":true}') });
  const port = await freePort();
  const started = await podman.run(
    [
      '--detach', '--name=openai-key', '--network=host', '--read-only', '--cap-drop=all', '--security-opt=no-new-privileges',
      `--volume=${keyFile}:/run/secrets/openai-api-key:ro`, `--volume=${caFile()}:/ca.pem:ro`,
    ],
    image, '--port', String(port), '--http-health', '--upstream-url', upstream.url, '--upstream-ca', '/ca.pem',
  );
  expect(started.code, started.stderr).toBe(0);
  await expect.poll(async () => (await podman.run(['--rm', '--network=container:openai-key', '--entrypoint=node'], image, '-e', `fetch('http://127.0.0.1:${port}/health').then(({ status }) => console.log(status), () => {})`)).stdout).toBe('200\n');
  const response = await ask(port);
  expect([response.status, response.text()]).toEqual([200, '{"served":true}']);
  expect(upstream.requests[0]?.headers).toContainEqual([expect.stringMatching(/^authorization$/i), `Bearer ${key}`]);
  const other = await podman.run(['--rm', '--network=none', '--user=65533', `--volume=${keyFile}:/run/secrets/openai-api-key:ro`, '--entrypoint=cat'], image, '/run/secrets/openai-api-key');
  expect(other).toMatchObject({ code: 1, stdout: '' });
  expectNoPieceOf(key, await podman.do('inspect', 'openai-key'));

  await podman.do('stop', '--time=20', 'openai-key');
  expect(await podman.do('inspect', '--format={{.State.ExitCode}}', 'openai-key')).toBe('0\n');
});
