import { beforeEach, describe, expect, test } from 'vitest';
import { listeningOn } from '../support/daemon.ts';
import { crowd } from '../support/inherited-socket.ts';
import { runTool } from '../support/native-tools.ts';
import { expectNothingSecret, github, pipeline } from '../support/openai-oidc.ts';
import { startRecordingTunnel } from '../support/recording-tunnel.ts';
import { needs } from '../support/skip.ts';
import { startTokenEndpoint } from '../support/token-endpoint.ts';

beforeEach((context) => needs(context, 'command curl', 'command jq'));

describe('the daemon behind it serves without one failed request', () => {
  test.for([
    ['as the contract says', [], false],
    ['with errors, slow answers and broken connections', [{ afterMs: 1_000 }, { status: 503, body: 'oops' }, 'hang up', 'issue', { status: 429, body: '{"error":{"code":"rate_limit_exceeded"}}' }, { status: 400, body: '{"error":"invalid_grant"}' }, { afterMs: 1_000 }, { status: 200, body: '{"access_token":"x"}' }], false],
    ['through a proxy', ['issue', { status: 500, body: '' }], true],
  ] as const)('%s', async ([, plan, isProxied]) => {
    const endpoint = await startTokenEndpoint(24);
    endpoint.plan(...plan);
    const tunnel = isProxied ? await startRecordingTunnel() : undefined;
    const { port, running, keys } = await pipeline(endpoint, github, tunnel === undefined ? {} : { HTTPS_PROXY: tunnel.url });
    const clients = crowd(port, { clients: 2 });
    await endpoint.until(() => endpoint.issued.length >= 4, 'four tokens', 90_000);
    await running.waitForStderr(/(the key was renewed[^]*){3}/, 20_000);
    expect(await clients.stop()).toEqual({});
    expect(keys().length).toBeGreaterThanOrEqual(3);
    if (tunnel !== undefined) expect(tunnel.tunnels).toBeGreaterThanOrEqual(8);
    expectNothingSecret(running.stderr, endpoint);
  });
});

test('it ends with the daemon, so that a pipeline does too', async () => {
  const endpoint = await startTokenEndpoint(3_600);
  const { running, port } = await pipeline(endpoint, github);
  const found = listeningOn(running, port);
  const pid = Number((await runTool('sh', ['-c', `for folder in /proc/[0-9]*; do case $(tr '\\0' ' ' <$folder/cmdline 2>/dev/null) in *dist/main.js*) [ "$(cut -d' ' -f5 $folder/stat)" = ${found.pid} ] && echo "\${folder#/proc/}"; esac; done`])).stdout.trim());
  process.kill(pid, 'SIGTERM');
  expect((await running.waitForExit(20_000)).code).toBe(0);
});
