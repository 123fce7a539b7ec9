import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { upstreamConnector } from '../../src/proxy/upstream-connector.ts';
import { caFile, identity, makeChain, otherCaFile } from '../support/certificates.ts';
import { failureOf, optionsOf } from '../support/command-line.ts';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

describe('--upstream-ca FILE', () => {
  test('trusts the CA in FILE', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url, '--upstream-ca', caFile()] });
    expect((await ask(daemon.port)).status).toBe(200);
  });

  test('trusts each of several CAs in FILE', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const file = join(scratchFolder(), 'both.pem');
    writeFileSync(file, `a comment\n${readFileSync(otherCaFile(), 'utf8')}\n${readFileSync(caFile(), 'utf8')}`);
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url, '--upstream-ca', file] });
    expect((await ask(daemon.port)).status).toBe(200);
  });

  test('trusts no other CA', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url, '--upstream-ca', otherCaFile()] });
    const response = await ask(daemon.port);
    expect(response.status).toBe(502);
    expect(envelopeOf(response).code).toBe('upstream_tls');
    expect(upstream.receivedBytes).toBe(0);
  });

  test('is what makes a private CA trusted', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url] });
    const response = await ask(daemon.port);
    expect(response.status).toBe(502);
    expect(envelopeOf(response).code).toBe('upstream_tls');
    expect(upstream.receivedBytes).toBe(0);
  });

  describe('trusts what is in FILE, as curl does', () => {
    const forms: Record<string, (chain: ReturnType<typeof makeChain>) => string> = {
      'the root CA': ({ root }) => read(root),
      'the issuing CA alone': ({ issuing }) => read(issuing),
      'the certificate itself': ({ leaf }) => read(leaf.cert),
      'all of the chain': ({ root, issuing, leaf }) => [leaf.cert, issuing, root].map(read).join(''),
      'the label X509 CERTIFICATE': ({ root }) => read(root).replaceAll(' CERTIFICATE', ' X509 CERTIFICATE'),
      'the label TRUSTED CERTIFICATE': ({ root }) => openssl('-in', root, '-trustout', '-addtrust', 'serverAuth'),
      'an issuing CA with that label': ({ issuing }) => openssl('-in', issuing, '-trustout', '-addtrust', 'serverAuth'),
      'text around it, and Windows\' line ends': ({ root }) => `\ufeff${openssl('-in', root, '-text')}\nthe end`.replaceAll('\n', '\r\n'),
    };
    test.for(Object.entries(forms))('%s', async ([, make]) => {
      const chain = makeChain();
      const cert = read(chain.leaf.cert) + read(chain.issuing);
      const upstream = await startUpstream({ secureContext: { cert, key: read(chain.leaf.key) }, answer: answer(200, '{}') });
      await connecting(upstream, fileWith(make(chain)));
    });

    test.for([
      ['another certificate of the same CA', 'good', 'wrongHost', /issuer|unable|verify/i],
      ['the certificate itself, for another name', 'wrongHost', 'wrongHost', /ALTNAME|altname/],
      ['the certificate itself, expired', 'expired', 'expired', /expired/],
    ] as const)('but not %s', async ([, presented, trusted, why]) => {
      const upstream = await startUpstream({ tls: presented, answer: answer(200, '{}') });
      await expect(connecting(upstream, identity(trusted).cert)).rejects.toMatchObject({ code: 'UPSTREAM_TLS', message: expect.stringMatching(why) });
      expect(upstream.receivedBytes).toBe(0);
    });
  });

  test('is read once, at start', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const file = join(scratchFolder(), 'ca.pem');
    writeFileSync(file, readFileSync(caFile()));
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url, '--upstream-ca', file] });
    writeFileSync(file, 'gone');
    expect((await ask(daemon.port)).status).toBe(200);
  });

  const unusable: Record<string, () => string> = {
    'is missing': () => join(scratchFolder(), 'missing.pem'),
    'is a folder': () => scratchFolder(),
    'is empty': () => fileWith(''),
    'is no PEM': () => fileWith('hello\n'),
    'holds a private key only': () => fileWith(readFileSync(identity('good').key, 'utf8')),
    'holds a broken certificate': () => fileWith('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'),
  };
  test.for(Object.entries(unusable))('is refused at start when it %s', async ([, make]) => {
    expect((await failureOf(async () => optionsOf(['--upstream-ca', make()]), 1)).message).toContain('--upstream-ca');
  });

  test('and the daemon says so', async () => {
    expect(refusalOf(await runToExit({ args: ['--upstream-ca', fileWith('hello\n')] }), 1)).toContain('--upstream-ca');
  });
});

/** Makes a connection as the daemon with this file would. */
async function connecting(upstream: Upstream, file: string): Promise<void> {
  (await upstreamConnector((await optionsOf(['--upstream-url', upstream.url, '--upstream-ca', file])).upstream)()).destroy();
}

function read(file: string): string {
  return readFileSync(file, 'utf8');
}

function openssl(...args: string[]): string {
  return execFileSync('openssl', ['x509', ...args], { encoding: 'utf8' });
}

function fileWith(text: string): string {
  const file = join(scratchFolder(), 'ca.pem');
  writeFileSync(file, text);
  return file;
}
