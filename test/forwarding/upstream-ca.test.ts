import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { caFile, identity, otherCaFile } from '../support/certificates.ts';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream } from '../support/upstream.ts';

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
    const file = make();
    const exit = await runToExit({ args: ['--upstream-ca', file] });
    expect(refusalOf(exit, [1, 2])).toContain('--upstream-ca');
  });
});

function fileWith(text: string): string {
  const file = join(scratchFolder(), 'ca.pem');
  writeFileSync(file, text);
  return file;
}
