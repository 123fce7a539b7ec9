import { describe, expect, test } from 'vitest';
import { upstreamConnector } from '../../src/proxy/upstream-connector.ts';
import { caFile } from '../support/certificates.ts';
import { optionsOf } from '../support/command-line.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { startRecordingTunnel } from '../support/recording-tunnel.ts';
import { answer, startUpstream, type Upstream, type UpstreamOptions } from '../support/upstream.ts';

interface Impostor {
  readonly upstream: UpstreamOptions;
  /** Whether the daemon trusts the tests' CA. Default: true. */
  readonly trusting?: boolean;
  /** Its name in --upstream-url. Default: localhost. */
  readonly host?: string;
  /** A word of the reason on stderr. */
  readonly reason: RegExp;
}

const legacy = { minVersion: 'TLSv1', ciphers: 'DEFAULT:@SECLEVEL=0' } as const;

const impostors: Record<string, Impostor> = {
  'signed by an unknown CA': { upstream: { tls: 'good' }, trusting: false, reason: /certificate|issuer/ },
  'signed by itself': { upstream: { tls: 'selfSigned' }, reason: /self.signed/ },
  'for another host': { upstream: { tls: 'wrongHost' }, reason: /[Hh]ost|altname/ },
  'for another host, in TLS 1.2': { upstream: { tls: 'wrongHost', secureContext: { maxVersion: 'TLSv1.2' } }, reason: /[Hh]ost|altname/ },
  'for another host, addressed by IP': { upstream: { tls: 'wrongHost' }, host: '127.0.0.1', reason: /IP|altname/ },
  'expired': { upstream: { tls: 'expired' }, reason: /expired/ },
  'expired, in TLS 1.2': { upstream: { tls: 'expired', secureContext: { maxVersion: 'TLSv1.2' } }, reason: /expired/ },
  'speaking TLS 1.1 at most': { upstream: { secureContext: { ...legacy, maxVersion: 'TLSv1.1' } }, reason: /version|protocol|alert/i },
  // Their code in OpenSSL leaves plain text in vector registers (see registers.test.ts).
  'offering CBC cipher suites alone': { upstream: { secureContext: { maxVersion: 'TLSv1.2', ciphers: 'SHA1:SHA256:SHA384' } }, reason: /handshake/i },
  'speaking TLS 1.0 alone': { upstream: { secureContext: { ...legacy, maxVersion: 'TLSv1' } }, reason: /version|protocol|alert/i },
};

async function upstreamOf({ upstream: options, trusting, host }: Impostor): Promise<{ upstream: Upstream; args: readonly string[] }> {
  const upstream = await startUpstream({ ...options, answer: answer(200, '{}') });
  const url = host === undefined ? upstream.url : upstream.url.replace('localhost', host);
  return { upstream, args: ['--upstream-url', url, ...(trusting === false ? [] : ['--upstream-ca', caFile()])] };
}

async function startWith(impostor: Impostor, flags: readonly string[] = []): Promise<{ upstream: Upstream; daemon: Daemon }> {
  const { upstream, args } = await upstreamOf(impostor);
  return { upstream, daemon: await startDaemon({ args: [...args, ...flags] }) };
}

/** Nothing of a request was sent: no byte inside TLS, and no piece of the key on the wire. */
async function expectNothingSent(daemon: Daemon, upstream: Upstream, reason: RegExp): Promise<void> {
  for (let attempt = 1; attempt <= 3; attempt++) {
    const response = await ask(daemon.port, { body: 'b'.repeat(1_000) });
    expect(response.status).toBe(502);
    expect(envelopeOf(response).code).toBe('upstream_tls');
  }
  await Promise.all(upstream.connections.map((connection) => connection.closed()));
  expect(upstream.receivedBytes).toBe(0);
  expect(upstream.requests).toHaveLength(0);
  const lines = daemon.stderr.split('\n').filter((line) => line.startsWith('responses-api-proxy: upstream_tls: '));
  expect(lines).toHaveLength(3);
  for (const line of lines) expect(line).toMatch(reason);
  expectNoPieceOf(daemon.key, daemon.stderr);
}

describe('no byte of a request goes to an upstream that is', () => {
  // undici is given a connection only once the function that makes it has verified it.
  test.for(Object.entries(impostors))('%s', async ([, impostor]) => {
    const { upstream, args } = await upstreamOf(impostor);
    const connect = upstreamConnector((await optionsOf(args)).upstream);
    await expect(connect()).rejects.toMatchObject({ code: 'UPSTREAM_TLS', message: expect.stringMatching(impostor.reason) });
    expect(upstream.receivedBytes).toBe(0);
  });
});

describe('nor does the daemon send any to one that is', () => {
  const some = ['signed by an unknown CA', 'for another host', 'for another host, addressed by IP', 'expired', 'offering CBC cipher suites alone'];
  test.for(Object.entries(impostors).filter(([what]) => some.includes(what)))('%s', async ([, impostor]) => {
    const { upstream, daemon } = await startWith(impostor);
    await expectNothingSent(daemon, upstream, impostor.reason);
  });
});

describe('nor, through a corporate proxy, to one that is', () => {
  // The handshake is the same one, over another socket.
  const some = ['signed by an unknown CA', 'for another host', 'expired, in TLS 1.2'];
  test.for(Object.entries(impostors).filter(([what]) => some.includes(what)))('%s', async ([, impostor]) => {
    const tunnel = await startRecordingTunnel(1_000_000);
    const { upstream, daemon } = await startWith(impostor, ['--upstream-proxy', tunnel.url]);
    await expectNothingSent(daemon, upstream, impostor.reason);
    // Its tunnels carried nothing but failed handshakes.
    expectNoPieceOf(daemon.key, tunnel.sent.toString('latin1'));
    expect(tunnel.sent.length).toBeLessThan(tunnel.tunnels * 4_000);
  });
});

test.for<[string, UpstreamOptions]>([['TLS 1.2', { secureContext: { maxVersion: 'TLSv1.2' } }], ['TLS 1.3', { secureContext: { minVersion: 'TLSv1.3' } }]])('one that speaks %s is served', async ([, options]) => {
  const { daemon } = await startWith({ upstream: options, reason: /./ });
  expect((await ask(daemon.port)).status).toBe(200);
});

test('an upstream that changes its certificate for another host\'s gets nothing any more', async () => {
  const { upstream, daemon } = await startWith({ upstream: { tls: 'good' }, reason: /./ });
  expect((await ask(daemon.port)).status).toBe(200);
  const { port } = upstream;
  await upstream.close();
  const imposter = await startUpstream({ tls: 'wrongHost', port, answer: answer(200, '{}') });
  const response = await ask(daemon.port);
  expect(response.status).toBe(502);
  await expect.poll(async () => envelopeOf(await ask(daemon.port)).code).toBe('upstream_tls');
  expect(imposter.receivedBytes).toBe(0);
});
