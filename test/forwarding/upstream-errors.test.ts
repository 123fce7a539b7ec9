import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { caFile, identity, otherCaFile } from '../support/certificates.ts';
import { cleanUp } from '../support/cleanup.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { expectNoPieceOf, expectNoStack } from '../support/messages.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, freePort, startUpstream } from '../support/upstream.ts';

/** The lines about requests: that of the connection which is made ahead comes at any time. */
function linesOf({ stderr }: Daemon): string[] {
  return stderr.split('\n').slice(0, -1).filter((line) => !line.includes('no connection to the upstream yet'));
}

/** Asks once; expects this problem in the response, and one line on stderr with the host and the cause. */
async function expectProblem(daemon: Daemon, status: number, code: string, host: string, cause: RegExp): Promise<void> {
  const told = linesOf(daemon).length;
  const response = await ask(daemon.port);
  expect(response.status).toBe(status);
  const problem = envelopeOf(response);
  expect(problem.code).toBe(code);
  expect(problem.type).toBe('server_error');
  expect(problem.message).toMatch(/^[A-Z].*\.$/);
  await expect.poll(() => linesOf(daemon).length).toBeGreaterThan(told);
  const lines = linesOf(daemon).slice(told);
  expect(lines, 'one line a failure').toHaveLength(1);
  expect(lines[0]).toMatch(/^responses-api-proxy: /);
  expect(lines[0]).toContain(code);
  expect(lines[0]).toContain(host);
  expect(lines[0]).toMatch(cause);
  expectNoStack(daemon.stderr);
  expect(lines[0], 'an address in its memory').not.toMatch(/[0-9A-F]{8,}:error:/);
  expectNoPieceOf(daemon.key, daemon.stderr);
  expectNoPieceOf(daemon.key, response.rawHead + response.text());
}

describe('upstream_unreachable', () => {
  test('nothing listens there', async () => {
    const host = `localhost:${await freePort()}`;
    const daemon = await startDaemon({ args: ['--upstream-url', `https://${host}/v1/responses`] });
    for (let count = 0; count < 3; count++) await expectProblem(daemon, 502, 'upstream_unreachable', host, /ECONNREFUSED/);
  });

  test('there is no such name', async () => {
    const daemon = await startDaemon({ args: ['--upstream-url', 'https://does-not-exist.invalid/v1/responses'] });
    await expectProblem(daemon, 502, 'upstream_unreachable', 'does-not-exist.invalid', /ENOTFOUND|EAI_AGAIN/);
  });

  test('it hangs up on the request', async () => {
    const upstream = await startUpstream({ answer: (request) => request.connection.close() });
    const daemon = await startDaemon({ args: [...upstream.args] });
    await expectProblem(daemon, 502, 'upstream_unreachable', `localhost:${upstream.port}`, /closed|ECONNRESET|UND_ERR_SOCKET/);
  });

  test('it resets the connection on the request', async () => {
    const upstream = await startUpstream({ answer: (request) => request.connection.reset() });
    const daemon = await startDaemon({ args: [...upstream.args] });
    await expectProblem(daemon, 502, 'upstream_unreachable', `localhost:${upstream.port}`, /closed|ECONNRESET|UND_ERR_SOCKET/);
  });

  test('and once it is back, requests are served again', async () => {
    const port = await freePort();
    const daemon = await startDaemon({ args: ['--upstream-url', `https://localhost:${port}/v1/responses`, '--upstream-ca', caFile()] });
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    expect((await client.response()).status).toBe(502);
    await startUpstream({ port, answer: answer(200, 'back') });
    await client.send(rawRequest(daemon.port));
    expect((await client.response()).text()).toBe('back');
  });
});

describe('upstream_tls', () => {
  test.for([
    ['a certificate by a CA that is not trusted', 'good', () => otherCaFile(), /certificate|SELF_SIGNED|UNABLE/i],
    ['a certificate for another name', 'wrongHost', () => caFile(), /ERR_TLS_CERT_ALTNAME_INVALID|altname/i],
  ] as const)('%s', async ([, identity, ca, cause]) => {
    const upstream = await startUpstream({ tls: identity, answer: answer(200, 'never') });
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url, '--upstream-ca', ca()] });
    await expectProblem(daemon, 502, 'upstream_tls', `localhost:${upstream.port}`, cause);
    expect(upstream.receivedBytes).toBe(0);
  });

  test('an upstream that speaks no TLS', async () => {
    const upstream = await startUpstream({ tls: false });
    const daemon = await startDaemon({ args: ['--upstream-url', `https://localhost:${upstream.port}/v1/responses`, '--upstream-ca', caFile()] });
    const speak = async (): Promise<unknown> => (await upstream.nextConnection()).send('HTTP/1.1 400 Bad Request\r\n\r\n');
    await speak(); // to the connection that is made at start
    await daemon.waitForStderr(/no connection to the upstream yet: upstream_tls/);
    const [response] = await Promise.all([ask(daemon.port), speak()]);
    expect(response.status).toBe(502);
    expect(envelopeOf(response).code).toBe('upstream_tls');
  });

  test.for(['TLSv1.2', 'TLSv1.3'] as const)('an upstream that demands a client certificate, %s', async (version) => {
    const { cert, key } = identity('good');
    const server = tls.createServer({ cert: readFileSync(cert), key: readFileSync(key), minVersion: version, maxVersion: version, requestCert: true, rejectUnauthorized: true });
    server.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    cleanUp(() => server.close());
    const host = `localhost:${(server.address() as AddressInfo).port}`;
    const daemon = await startDaemon({ args: ['--upstream-url', `https://${host}/v1/responses`, '--upstream-ca', caFile()] });
    const cause = version === 'TLSv1.3' ? /demands a client certificate/ : /handshake/i;
    for (let count = 0; count < 3; count++) await expectProblem(daemon, 502, 'upstream_tls', host, cause);
  });

  test('an upstream that knows only TLS 1.1', async () => {
    const upstream = await startUpstream({ secureContext: { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } });
    const daemon = await startDaemon({ args: [...upstream.args] });
    await expectProblem(daemon, 502, 'upstream_tls', `localhost:${upstream.port}`, /protocol version|alert|handshake/i);
  });
});

test('a hundred failures leave a hundred lines at most, and no connection', async () => {
  const upstream = await startUpstream({ answer: (request) => request.connection.reset() });
  const daemon = await startDaemon({ args: [...upstream.args] });
  const before = linesOf(daemon).length;
  for (let count = 0; count < 100; count++) expect((await ask(daemon.port)).status).toBe(502);
  expect(linesOf(daemon).length - before).toBeLessThanOrEqual(100);
  expect(upstream.requests).toHaveLength(100);
  expect(upstream.openConnections).toHaveLength(0);
});
