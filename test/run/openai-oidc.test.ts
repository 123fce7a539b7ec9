import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { launch, type DaemonOptions, type Running } from '../support/daemon.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { expectNothingSecret, flags, github, ids, program } from '../support/openai-oidc.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { startTokenEndpoint, type TokenEndpoint } from '../support/token-endpoint.ts';

beforeEach((context) => {
  if (!context.task.name.startsWith('shellcheck')) needs(context, 'command curl', 'command jq');
});

/** The feeder alone. */
function feed(endpoint: TokenEndpoint, args: readonly string[], options: DaemonOptions = {}): Running {
  return launch({ ...options, launcher: program, args: flags(endpoint, args), stdin: 'ignore', env: { CURL_CA_BUNDLE: caFile(), ...endpoint.githubEnv, ...options.env } });
}

describe('the subject token', () => {
  test('comes from GitHub, with the audience asked for', async () => {
    const endpoint = await startTokenEndpoint(3_600);
    const feeder = feed(endpoint, github);
    await endpoint.until(() => endpoint.issued.length === 1, 'a token');
    await expect.poll(() => feeder.stdout).toBe(`${endpoint.issued[0]}\n`);
    expect(endpoint.exchanges).toEqual([{
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      subject_token: [...endpoint.subjects][0],
      identity_provider_id: 'idp_1',
      service_account_id: 'sa_1',
    }]);
    expect(feeder.stderr).toBe('');
  });

  test('comes from a file, as it is when it is needed', async () => {
    const endpoint = await startTokenEndpoint(4);
    const file = join(scratchFolder(), 'token');
    writeFileSync(file, 'one.two.three\n');
    endpoint.subjects.add('one.two.three').add('four.five.six');
    feed(endpoint, [...ids, '--subject-token-file', file]);
    await endpoint.until(() => endpoint.issued.length === 1, 'a token');
    writeFileSync(file, 'four.five.six');
    await endpoint.until(() => endpoint.issued.length === 2, 'the next');
    expect(endpoint.exchanges.map((body) => body['subject_token'])).toEqual(['one.two.three', 'four.five.six']);
  });
});

describe('failures', () => {
  test('a refusal before the first token ends it, with the server\'s code and nothing else of its answer', async () => {
    const endpoint = await startTokenEndpoint(3_600);
    const file = join(scratchFolder(), 'token');
    const subject = 'unknown.subject.token-0123456789';
    writeFileSync(file, subject);
    const exit = await feed(endpoint, [...ids, '--subject-token-file', file]).waitForExit();
    expect(exit).toMatchObject({ code: 1, stdout: '' });
    expect(exit.stderr).toContain('OpenAI answered 401: invalid_subject_token');
    expectNoPieceOf(subject, exit.stderr, 12);
  });

  test('an error code that is none is not repeated', async () => {
    const endpoint = await startTokenEndpoint(3_600);
    endpoint.plan({ status: 400, body: `{"error":"${'Secret.Token-1'.repeat(3)}"}` });
    const exit = await feed(endpoint, github).waitForExit();
    expect(exit.stderr).toContain('OpenAI answered 400: no error code');
    expect(exit.stderr).not.toContain('Secret');
  });

  test('at first it tries again after what may pass', async () => {
    const endpoint = await startTokenEndpoint(3_600);
    endpoint.plan({ status: 503, body: '' }, 'hang up');
    const feeder = feed(endpoint, github);
    await expect.poll(() => feeder.stdout).toMatch(/^\S+\n$/);
    expect(feeder.stderr).toMatch(/answered 503: no error code\n.*no answer \(curl: exit code \d+\)\n/);
  });

  test.for([
    ['no flags', [], 2],
    ['both sources', [...github, '--subject-token-file', '/x'], 2],
    ['no source', ids, 2],
    ['an unknown flag', [...github, '--nonsense', 'x'], 2],
    ['a flag without its value', [...ids, '--oidc-audience'], 2],
    ['cleartext to elsewhere', [...github, '--token-url', 'http://example.com/'], 2],
    ['GitHub without its variables', github, 1],
  ] as const)('%s', async ([what, args, code]) => {
    const result = await runTool('env', ['-u', 'ACTIONS_ID_TOKEN_REQUEST_TOKEN', program, ...args]);
    expect(result, what).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(/^openai-oidc: .+\n$/) });
  });
});

test('no secret is in the arguments or the environment of a program that it runs', async () => {
  const endpoint = await startTokenEndpoint(3_600);
  const folder = scratchFolder();
  const log = scratchFolder();
  for (const name of ['curl', 'jq', 'tr', 'date', 'timeout', 'tail', 'sleep']) {
    const real = (await runTool('sh', ['-c', `command -v ${name}`])).stdout.trim();
    const file = join(folder, name);
    writeFileSync(file, `#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ > '${log}/${name}'.$$\nexec '${real}' "$@"\n`);
    chmodSync(file, 0o755);
  }
  const feeder = feed(endpoint, github, { env: { PATH: `${folder}:${process.env['PATH'] ?? ''}` } });
  await expect.poll(() => feeder.stdout).toMatch(/^\S+\n$/);
  await feeder.stop();
  const files = readdirSync(log);
  expect(files.filter((name) => name.startsWith('curl'))).toHaveLength(2);
  for (const name of files) expectNothingSecret(readFileSync(join(log, name), 'latin1'), endpoint);
});

test('shellcheck finds nothing', async (context) => {
  needs(context, 'command shellcheck');
  expect(await runTool('shellcheck', ['--shell=sh', '--enable=check-unassigned-uppercase', program])).toEqual({ code: 0, stdout: '', stderr: '' });
});
