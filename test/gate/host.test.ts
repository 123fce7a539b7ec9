import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { judged, judgedPort } from '../support/judged.ts';
import { ask, exchange, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{}') });
  daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
});

describe('served', () => {
  test.for(['127.0.0.1', 'localhost'])('%s:PORT', async (name) => {
    expect((await ask(daemon.port, { host: `${name}:${daemon.port}` })).status).toBe(200);
  });

  test('in any case of the header name', async () => {
    for (const name of ['host', 'HOST', 'hOsT']) {
      expect((await ask(daemon.port, { host: undefined, headers: [[name, `localhost:${daemon.port}`]] })).status).toBe(200);
    }
  });
});

/** Host headers that a rebound name, a proxy, another daemon or a mistake would send. PORT stands for ours. */
const refused: readonly string[] = [
  // no port, another port, a port in another form
  '127.0.0.1', 'localhost', '127.0.0.1:', 'localhost:', '127.0.0.1:80', 'localhost:443', '127.0.0.1:1', '127.0.0.1:0PORT', '127.0.0.1:+PORT', '127.0.0.1:PORT0',
  '127.0.0.1: PORT', '127.0.0.1 :PORT', '127.0.0.1:PORT:PORT', ':PORT', 'PORT', '127.0.0.1;PORT',
  // other names of this machine
  'LOCALHOST:PORT', 'Localhost:PORT', 'localhost.:PORT', 'localhost.localdomain:PORT', 'ip6-localhost:PORT', '127.0.0.1.:PORT', '[::1]:PORT', '::1:PORT', '[::ffff:127.0.0.1]:PORT', '[::]:PORT',
  '0.0.0.0:PORT', '127.0.0.2:PORT', '127.1:PORT', '127.0.1:PORT', '127.0.0.01:PORT', '127.0.0.1.0:PORT', '2130706433:PORT', '0x7f000001:PORT', '0x7f.0.0.1:PORT', '0177.0.0.1:PORT', '017700000001:PORT',
  '127。0。0。1:PORT', 'loca\u017fhost:PORT', 'localhost%00:PORT', '%6cocalhost:PORT',
  // user information, paths and more
  'user@127.0.0.1:PORT', 'user:password@localhost:PORT', '127.0.0.1:PORT@evil.example', 'evil.example@127.0.0.1:PORT', '127.0.0.1:PORT/', '127.0.0.1:PORT/v1/responses', '127.0.0.1:PORT?', '127.0.0.1:PORT#',
  'http://127.0.0.1:PORT', '//127.0.0.1:PORT', '127.0.0.1:PORT, 127.0.0.1:PORT', '127.0.0.1:PORT,evil.example', 'evil.example, 127.0.0.1:PORT', '127.0.0.1:PORT evil.example', 'evil.example 127.0.0.1:PORT',
  '"127.0.0.1:PORT"', '*', '*:PORT', 'null', '',
  // names that an attacker's DNS can resolve to 127.0.0.1
  'evil.example', 'evil.example:PORT', 'evil.example:80', '127.0.0.1.nip.io:PORT', 'localtest.me:PORT', 'localhost.evil.example:PORT', '127.0.0.1.evil.example:PORT', 'evil.localhost:PORT', 'xlocalhost:PORT',
  'localhostx:PORT', 'api.openai.com', 'api.openai.com:PORT', 'kubernetes.docker.internal:PORT', 'a:PORT', `${'a'.repeat(10_000)}:PORT`,
];

describe('refused', () => {
  test.for(refused)('%s', (pattern) => {
    const host = Buffer.from(pattern.replaceAll('PORT', String(judgedPort)), 'utf8').toString('latin1');
    expect(judged({ host })).toBe('403 host_not_allowed');
    expect(judged({ method: 'GET', target: '/shutdown', host })).toBe('403 host_not_allowed');
  });

  test('so that nothing of the request goes up, and the answer says what it must be', async () => {
    const before = upstream.receivedBytes;
    for (const request of [{}, { method: 'GET', target: '/shutdown' }]) {
      const response = await ask(daemon.port, { ...request, host: `evil.example:${daemon.port}` });
      expect(response.status).toBe(403);
      expect(envelopeOf(response)).toMatchObject({ code: 'host_not_allowed', message: expect.stringContaining(`127.0.0.1:${daemon.port}`) });
    }
    expect(upstream.receivedBytes).toBe(before);
    expect(daemon.exit).toBe(undefined);
  });

  test('none', async () => {
    for (const version of ['HTTP/1.1', 'HTTP/1.0']) {
      const response = await ask(daemon.port, { host: undefined, version });
      expect([400, 403]).toContain(response.status);
    }
  });

  const pairs: Record<string, (port: number) => readonly [string, string]> = {
    'the right one twice': (port) => [`127.0.0.1:${port}`, `127.0.0.1:${port}`],
    'both right ones': (port) => [`127.0.0.1:${port}`, `localhost:${port}`],
    'the right one, then another': (port) => [`127.0.0.1:${port}`, 'evil.example'],
    'another, then the right one': (port) => ['evil.example', `127.0.0.1:${port}`],
    'an empty one, then the right one': (port) => ['', `127.0.0.1:${port}`],
  };
  test.for(Object.entries(pairs))('%s, by the gate', ([, pair]) => {
    const [first, second] = pair(judgedPort);
    expect(judged({ host: first, headers: [['X-Between', '1'], ['hOST', second]] })).toBe('403 host_not_allowed');
  });

  test.for(Object.entries(pairs))('%s, or before', async ([, pair]) => {
    const [first, second] = pair(daemon.port);
    const before = upstream.receivedBytes;
    for (const names of [['Host', 'Host'], ['Host', 'host'], ['HOST', 'hOST']] as const) {
      const response = await ask(daemon.port, { host: undefined, headers: [[names[0], first], ['X-Between', '1'], [names[1], second]] });
      expect([400, 403]).toContain(response.status);
      envelopeOf(response);
    }
    expect(upstream.receivedBytes).toBe(before);
  });

  test('the right one, in a request for an absolute target', async () => {
    for (const target of [daemon.url, `http://evil.example/v1/responses`]) {
      expect((await ask(daemon.port, { target })).status).toBe(403);
    }
  });

  test('the right one, but of another daemon', async () => {
    const other = await startDaemon({ args: upstream.args });
    expect((await exchange(daemon.port, rawRequest(other.port))).status).toBe(403);
    expect((await exchange(other.port, rawRequest(other.port))).status).toBe(200);
  });
});

test('on port 80 it may have no port', async (context) => {
  const daemon = await startDaemon({ args: [...upstream.args, '--port', '80'] }).catch((error: Error) => {
    if (!/address already in use|permission denied/.test(error.message)) throw error;
    return context.skip('needs port 80 to be free and allowed');
  });
  for (const host of ['127.0.0.1', 'localhost', '127.0.0.1:80', 'localhost:80']) expect((await ask(80, { host })).status).toBe(200);
  for (const host of ['127.0.0.1:8080', 'localhost:080', 'evil.example', '127.0.0.1:', '']) expect((await ask(80, { host })).status, host).toBe(403);
  expect((await daemon.stop()).code).toBe(0);
});
