import { describe, expect, test } from 'vitest';
import { environmentProxy } from '../../src/proxy/environment-proxy.ts';
import { upstreamConnector } from '../../src/proxy/upstream-connector.ts';
import { explain } from '../../src/proxy/upstream-error.ts';
import { version } from '../../src/run/installation.ts';
import { caFile, identity } from '../support/certificates.ts';
import { cleanUp } from '../support/cleanup.ts';
import { misuseOf, optionsOf } from '../support/command-line.ts';
import { startCorporateProxy, type CorporateProxy } from '../support/corporate-proxy.ts';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { expectNoPieceOf, expectNoStack, refusalOf } from '../support/messages.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, freePort, startUpstream, streamHead, type Upstream } from '../support/upstream.ts';

/** A name that only the proxy knows. The identity 'wrongHost' is for it. */
const name = 'elsewhere.example';

/** Makes a connection as the daemon with these flags would. */
async function connecting(args: readonly string[]): Promise<void> {
  const socket = await upstreamConnector((await optionsOf(args)).upstream)();
  cleanUp(() => void socket.destroy());
}

interface Beyond {
  readonly upstream: Upstream;
  readonly proxy: CorporateProxy;
  /** For --upstream-url; reachable only through the proxy. */
  readonly args: readonly string[];
}

/** An upstream that can only be reached through a proxy. */
async function beyond(proxyOptions: Parameters<typeof startCorporateProxy>[0] = {}): Promise<Beyond> {
  const upstream = await startUpstream({ tls: 'wrongHost', answer: answer(200, 'reached') });
  const proxy = await startCorporateProxy({ map: { [`${name}:${upstream.port}`]: upstream.port }, ...proxyOptions });
  return { upstream, proxy, args: ['--upstream-url', `https://${name}:${upstream.port}/v1/responses`, '--upstream-ca', caFile()] };
}

describe('--upstream-proxy', () => {
  test('CONNECT to the upstream, TLS end to end, and nothing of the request in the proxy\'s hands', async () => {
    const { upstream, proxy, args } = await beyond();
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', proxy.url] });
    const client = await connect(daemon.port);
    for (let count = 0; count < 3; count++) {
      await client.send(rawRequest(daemon.port, { body: 'for the upstream alone' }));
      expect((await client.response()).text()).toBe('reached');
    }
    expect(upstream.connections).toHaveLength(1);
    expect(upstream.connections[0]?.tls?.servername).toBe(name);
    expect(upstream.requests[0]?.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
    expect(upstream.requests[0]?.values('host')).toEqual([`${name}:${upstream.port}`]);
    expect(upstream.requests[0]?.headers.filter(([field]) => /^proxy-/i.test(field))).toEqual([]);
    expect(proxy.requests).toHaveLength(1);
    expect(proxy.requests[0]).toMatch(new RegExp(`^CONNECT ${name}:${upstream.port} HTTP/1\\.1\r\n`));
    expect(proxy.requests[0]).toMatch(new RegExp(`\r\nHost: ${name}:${upstream.port}\r\n`, 'i'));
    expect(proxy.requests[0]).not.toMatch(/authorization/i);
    expect(proxy.requests[0]).toContain(`\r\nUser-Agent: responses-api-proxy/${version}\r\n`);
    await daemon.stop();
    await proxy.until(() => proxy.through.length > 100, 'what went through the tunnel');
    expectNoPieceOf(daemon.key, proxy.requests.join('') + proxy.through);
    expect(proxy.through).not.toContain('upstream alone');
  });

  test('the credentials in its URL, decoded, are the proxy\'s alone', async () => {
    const credentials = 'j\u00f6rg@corp:p:a/s%s w\u00f6rd';
    const { upstream, proxy, args } = await beyond({ credentials });
    const [user = '', ...password] = credentials.split(':');
    const url = `http://${encodeURIComponent(user)}:${encodeURIComponent(password.join(':'))}@127.0.0.1:${proxy.port}`;
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', url] });
    expect((await ask(daemon.port, { headers: [['Proxy-Authorization', 'Basic Y2xpZW50']] })).text()).toBe('reached');
    expect(proxy.requests[0]).toMatch(/\r\nProxy-Authorization: Basic \S+\r\n/i);
    expect(upstream.requests[0]?.rawHead).not.toMatch(/proxy-/i);
    expect(daemon.stderr).not.toContain('p%3Aa');
  });

  test('a % in them that encodes nothing stays one', async () => {
    const { proxy, args } = await beyond({ credentials: 'user:100%' });
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', `http://user:100%@127.0.0.1:${proxy.port}`] });
    expect((await ask(daemon.port)).text()).toBe('reached');
  });

  test('streams, and breaks with the upstream, as without it', async () => {
    const { upstream, proxy, args } = await beyond();
    upstream.answerWith(() => {});
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', proxy.url] });
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    const request = await upstream.nextRequest();
    await request.reply(streamHead());
    for (let count = 0; count < 5; count++) {
      await request.reply(chunk(`data: ${count}\n\n`));
      await client.waitFor(`data: ${count}\n\n`);
    }
    request.connection.close();
    expect(await client.waitForClose()).not.toBe('local');
    expect((await client.response()).complete).toBe(false);
    const leaving = await connect(daemon.port);
    await leaving.send(rawRequest(daemon.port));
    const abandoned = await upstream.nextRequest();
    leaving.close();
    expect(await abandoned.connection.closed()).not.toBe('local');
  });

  test('the upstream still has to prove who it is', async () => {
    const upstream = await startUpstream({ tls: 'good', answer: answer(200, 'never') });
    const proxy = await startCorporateProxy({ map: { [`${name}:${upstream.port}`]: upstream.port } });
    const daemon = await startDaemon({ args: ['--upstream-url', `https://${name}:${upstream.port}/v1/responses`, '--upstream-ca', caFile(), '--upstream-proxy', proxy.url] });
    const response = await ask(daemon.port);
    expect(response.status).toBe(502);
    expect(envelopeOf(response).code).toBe('upstream_tls');
    expect(upstream.receivedBytes).toBe(0);
  });

  test('sessions are resumed and idle connections replaced through it', async () => {
    const { upstream, proxy, args } = await beyond();
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', proxy.url] });
    for (let count = 0; count < 10; count++) {
      expect((await ask(daemon.port)).text()).toBe('reached');
      const { connection } = await upstream.nextRequest();
      connection.close();
      await proxy.until(() => proxy.closed === count + 1, 'the tunnel to close');
    }
    expect(upstream.requests).toHaveLength(10);
    expect(upstream.sessionsReused).toBe(9);
  });

  test('over TLS to the proxy, whose sessions are resumed too', async () => {
    const { upstream, proxy, args } = await beyond({ identity: identity('good'), credentials: 'user:password' });
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', proxy.url.replace('//', '//user:password@')] });
    for (let count = 0; count < 5; count++) {
      expect((await ask(daemon.port)).text()).toBe('reached');
      (await upstream.nextRequest()).connection.close();
      await proxy.until(() => proxy.closed === count + 1, 'the tunnel to close');
    }
    expect(proxy.resumed).toBe(proxy.requests.length - 1);
    expect(upstream.sessionsReused).toBe(upstream.connections.length - 1);
  });

  test('a proxy that cannot prove who it is gets no credentials', async () => {
    const { proxy, args } = await beyond({ identity: identity('expired') });
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', proxy.url.replace('//', '//user:password@')] });
    expect(envelopeOf(await ask(daemon.port)).code).toBe('upstream_unreachable');
    await daemon.waitForStderr(/proxy localhost:\d+: certificate has expired/);
    expect(proxy.requests).toEqual([]);
  });

  test('a proxy that speaks HTTP/1.0, or sends headers along, is understood', async () => {
    for (const answered of ['HTTP/1.0 200 OK\r\n\r\n', 'HTTP/1.1 200 OK\r\nVia: 1.1 corp\r\nContent-Length: 0\r\n\r\n', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', 'HTTP/1.1 299 Fine\r\n\r\n']) {
      const { proxy, args } = await beyond({ answer: answered });
      await connecting([...args, '--upstream-proxy', proxy.url]);
      expect(proxy.requests, answered).toHaveLength(1);
    }
  });

  test('also to a loopback upstream, where the flag says so', async () => {
    const upstream = await startUpstream({ answer: answer(200, 'reached') });
    const proxy = await startCorporateProxy();
    const daemon = await startDaemon({ args: [...upstream.args, '--upstream-proxy', proxy.url] });
    expect((await ask(daemon.port)).text()).toBe('reached');
    expect(proxy.requests).toHaveLength(1);
  });
});

describe('a proxy that does not let through', () => {
  const failures: ReadonlyArray<readonly [string, Parameters<typeof startCorporateProxy>[0], number, string, RegExp]> = [
    ['wants credentials', { credentials: 'a:b' }, 502, 'upstream_unreachable', /407/],
    ['refuses with 403', { mode: 'refuse', answer: 'HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nsecret' }, 502, 'upstream_unreachable', /403/],
    ['cannot reach it either', { mode: 'refuse', answer: 'HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n' }, 502, 'upstream_unreachable', /502/],
    ['redirects', { mode: 'refuse', answer: 'HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/login\r\nContent-Length: 0\r\n\r\n' }, 502, 'upstream_unreachable', /302/],
    ['talks garbage', { mode: 'refuse', answer: 'SSH-2.0-OpenSSH\r\n\r\n' }, 502, 'upstream_(unreachable|protocol)', /127\.0\.0\.1/],
    ['resets', { mode: 'cut' }, 502, 'upstream_unreachable', /ECONNRESET|closed/],
    ['cuts during the handshake', { mode: 'cut tunnel' }, 502, 'upstream_unreachable', /ECONNRESET|closed|disconnected/],
    ['hangs', { mode: 'hang' }, 504, 'upstream_timeout', /timeout/i],
  ];

  test.for(failures)('%s', async ([, options, status, code, cause]) => {
    const { upstream, proxy, args } = await beyond(options);
    const attempt = connecting([...args, '--upstream-proxy', `http://user:pa55word@127.0.0.1:${proxy.port}`, '--connect-timeout', '0.5']);
    const error: unknown = await attempt.catch((reason: unknown) => reason);
    if (!(error instanceof Error)) expect.fail('it was connected');
    const { problem, detail } = explain(error, name);
    expect(problem.status).toBe(status);
    expect(problem.code).toMatch(new RegExp(`^${code}$`));
    expect(detail).toMatch(cause);
    expectNoStack(detail);
    expect(detail).not.toContain('pa55word');
    expect(upstream.receivedBytes).toBe(0);
    await proxy.until(() => proxy.closed === proxy.requests.length, 'the connection to the proxy to close');
  });

  test.for(failures.filter(([what]) => what === 'wants credentials' || what === 'hangs'))('%s: so is the client told, and the log', async ([, options, status, code, cause]) => {
    const { upstream, proxy, args } = await beyond(options);
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', `http://user:pa55word@127.0.0.1:${proxy.port}`, '--connect-timeout', '0.5'] });
    const told = daemon.stderr.length;
    const response = await ask(daemon.port);
    expect(response.status).toBe(status);
    expect(envelopeOf(response).code).toMatch(new RegExp(`^${code}$`));
    const line = await daemon.waitForStderr(new RegExp(`^[^]{${told}}([^\n]*)\n`));
    expect(line[1]).toMatch(cause);
    expectNoStack(line[1] ?? '');
    expect(daemon.stderr).not.toContain('pa55word');
    expect(response.text()).not.toContain('pa55word');
    expect(upstream.receivedBytes).toBe(0);
    await proxy.until(() => proxy.closed === proxy.requests.length, 'the connection to the proxy to close');
  });

  test('is not there', async () => {
    const port = await freePort();
    const daemon = await startDaemon({ args: ['--upstream-url', `https://${name}/v1/responses`, '--upstream-proxy', `http://127.0.0.1:${port}`] });
    const response = await ask(daemon.port);
    expect(response.status).toBe(502);
    expect(envelopeOf(response).code).toBe('upstream_unreachable');
    expect(daemon.stderr).toMatch(/ECONNREFUSED/);
  });
});

describe('the environment', () => {
  for (const variable of ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy']) {
    test(`${variable} names the proxy`, async () => {
      const { proxy, args } = await beyond();
      const daemon = await startDaemon({ args, env: { [variable]: proxy.url } });
      expect((await ask(daemon.port)).text()).toBe('reached');
      expect(proxy.requests).toHaveLength(1);
    });
  }

  test('other variables do not', async () => {
    const { proxy, args } = await beyond();
    const daemon = await startDaemon({ args, env: { HTTP_PROXY: proxy.url, http_proxy: proxy.url, FTP_PROXY: proxy.url } });
    expect((await ask(daemon.port)).status).toBe(502);
    expect(proxy.requests).toHaveLength(0);
  });

  test('a SOCKS proxy in ALL_PROXY is passed over with a line, in HTTPS_PROXY it is refused', async () => {
    const upstream = await startUpstream({ tls: 'wrongHost' });
    const args = ['--upstream-url', `https://${name}:${upstream.port}/v1/responses`];
    const { stderr } = await startDaemon({ args, env: { ALL_PROXY: 'socks5://user:hidden@proxy.corp' } });
    expect(stderr).toMatch(/^responses-api-proxy: ALL_PROXY names a SOCKS proxy, and is passed over: .+\n/);
    expect(stderr).not.toContain('hidden');
    expect(refusalOf(await runToExit({ args, env: { https_proxy: 'socks5h://proxy.corp' } }), 2)).toContain('https_proxy must be http://');
    expect((await startDaemon({ args: [...args, '--upstream-proxy', 'none'], env: { ALL_PROXY: 'socks5://proxy.corp' } })).stderr).not.toContain('SOCKS');
  });

  test.for(['#', '\\', '?', '/'])('where a password has a %s, the hint names percent-encoding', async (character) => {
    const { message, hint } = await misuseOf([], { HTTPS_PROXY: `http://user:hid${character}den@proxy.corp:3128` });
    expect(message).toContain('HTTPS_PROXY must be http://');
    expect(hint).toContain('percent-encoded');
    expect(message + hint).not.toMatch(/hid|den@/);
  });

  test('the flag goes before it, and none means none', async () => {
    const { proxy, args } = await beyond();
    const other = await startCorporateProxy({ mode: 'cut' });
    const daemon = await startDaemon({ args: [...args, '--upstream-proxy', proxy.url], env: { HTTPS_PROXY: other.url, NO_PROXY: '*' } });
    expect((await ask(daemon.port)).text()).toBe('reached');
    const without = await startDaemon({ args: [...args, '--upstream-proxy', 'none'], env: { HTTPS_PROXY: proxy.url } });
    expect((await ask(without.port)).status).toBe(502);
    expect(proxy.requests).toHaveLength(1);
    expect(other.requests).toHaveLength(0);
  });

  test('NO_PROXY exempts the upstream', async () => {
    const { proxy, args } = await beyond();
    const daemon = await startDaemon({ args, env: { HTTPS_PROXY: proxy.url, NO_PROXY: `localhost,${name}` } });
    expect((await ask(daemon.port)).status).toBe(502);
    expect((await optionsOf(args, { HTTPS_PROXY: proxy.url, no_proxy: `localhost,${name}` })).upstream.proxy).toBe(undefined);
    expect(proxy.requests).toHaveLength(0);
  });

  test.for([
    ['*', true], [name, true], ['example', true], ['.example', true], ['*.example', true], [`other.test, ${name}`, true], ['ELSEWHERE.EXAMPLE', true], [`${name}:8443`, true],
    [`${name}.`, true], [`.${name}.`, true], [`a b\tc,\n${name}`, true], [`,, ,${name},`, true],
    ['other.test', false], ['where.example', false], [`${name}:1`, false], ['', false], ['elsewhere.example.other', false], ['127.0.0.1', false],
  ] as const)('NO_PROXY=%s: exempt is %s', ([exempt, isExempt]) => {
    const proxy = environmentProxy(new URL(`https://${name}:8443/v1/responses`), { HTTPS_PROXY: 'http://proxy.corp:3128', NO_PROXY: exempt });
    expect(proxy?.url).toBe(isExempt ? undefined : 'http://proxy.corp:3128');
  });

  test.for([
    ['10.20.30.40', '10.20.30.40', true], ['10.20.30.40', '10.0.0.0/8', true], ['10.20.30.40', '10.20.30.40/32', true], ['10.20.30.40', '10.20.30.40:8443', true], ['10.20.30.40', '0.0.0.0/0', true],
    ['10.20.30.40', '30.40', false], ['10.20.30.40', '.30.40', false], ['10.20.30.40', '11.0.0.0/8', false], ['10.20.30.40', '10.20.30.41/32', false], ['10.20.30.40', '10.0.0.0/33', false],
    ['10.20.30.40', '10.0.0.0/', false], ['10.20.30.40', '10.0.0.0/x', false], ['10.20.30.40', '10.20.30.40:1', false], ['10.20.30.40', '::/0', false], ['10.20.30.40', 'fd00::/8', false],
    ['[fd00::5]', 'fd00::5', true], ['[fd00::5]', '[fd00::5]', true], ['[fd00::5]', '[fd00::5]:8443', true], ['[fd00::5]', 'FD00:0::5', true], ['[fd00::5]', 'fd00::/8', true], ['[fd00::5]', '[fd00::]/8', true],
    ['[fd00::5]', 'fd00::/127', false], ['[fd00::5]', 'fd00::4/127', true], ['[fd00::5]', 'fe00::/7', false], ['[fd00::5]', '[fd00::5]:1', false], ['[fd00::5]', 'fd00::/129', false], ['[fd00::5]', '10.0.0.0/8', false],
    [`${name}.`, name, true], [`${name}.`, `${name}.`, true], [`${name}.`, 'example', true], [name, '10.0.0.0/8', false],
  ] as const)('%s with NO_PROXY=%s: exempt is %s', ([host, exempt, isExempt]) => {
    const proxy = environmentProxy(new URL(`https://${host}:8443/v1/responses`), { HTTPS_PROXY: 'http://proxy.corp:3128', NO_PROXY: exempt });
    expect(proxy?.url).toBe(isExempt ? undefined : 'http://proxy.corp:3128');
  });

  test.for([
    [{ https_proxy: 'a', HTTPS_PROXY: 'b', all_proxy: 'c', ALL_PROXY: 'd' }, 'https_proxy', 'http://a'],
    [{ https_proxy: '', HTTPS_PROXY: 'b', all_proxy: 'c', ALL_PROXY: 'd' }, 'HTTPS_PROXY', 'http://b'],
    [{ https_proxy: '', HTTPS_PROXY: '', all_proxy: 'c', ALL_PROXY: 'd' }, 'all_proxy', 'http://c'],
    [{ all_proxy: '', ALL_PROXY: 'https://d:1' }, 'ALL_PROXY', 'https://d:1'],
    [{ HTTPS_PROXY: 'b', no_proxy: '', NO_PROXY: name }, undefined, undefined],
    [{ HTTPS_PROXY: 'b', no_proxy: 'other.test', NO_PROXY: name }, 'HTTPS_PROXY', 'http://b'],
  ])('of %j it takes %s', ([environment, variable, url]) => {
    expect(environmentProxy(new URL(`https://${name}/`), environment as NodeJS.ProcessEnv)).toEqual(variable === undefined ? undefined : { variable, url });
  });

  test('never sends a loopback upstream through a proxy', async () => {
    const proxy = await startCorporateProxy();
    const upstream = await startUpstream({ answer: answer(200, 'direct') });
    const environment = { HTTPS_PROXY: proxy.url, https_proxy: proxy.url, HTTP_PROXY: proxy.url };
    const daemon = await startDaemon({ args: upstream.args, env: environment });
    expect((await ask(daemon.port)).text()).toBe('direct');
    for (const url of ['https://localhost', 'https://127.0.0.1', 'https://[::1]', 'http://localhost', 'http://127.0.0.1']) expect((await optionsOf(['--upstream-url', `${url}:8443/v1/responses`], environment)).upstream.proxy, url).toBe(undefined);
    expect(proxy.requests).toHaveLength(0);
  });
});
