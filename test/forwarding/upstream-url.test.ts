import { describe, expect, test } from 'vitest';
import { misuseOf, optionsOf } from '../support/command-line.ts';
import { startDaemon } from '../support/daemon.ts';
import { ask } from '../support/raw-client.ts';
import { answer, startUpstream } from '../support/upstream.ts';

describe('--upstream-url is refused at start', () => {
  const refused: Record<string, readonly string[]> = {
    'when it is no URL': ['', 'api.openai.com', 'api.openai.com/v1/responses', '/v1/responses', '//api.openai.com/v1/responses', 'https://', 'https://host:99999/', 'https://a b/'],
    'when its scheme is neither http nor https': ['ftp://api.openai.com/', 'file:///etc/passwd', 'ws://localhost/', 'wss://api.openai.com/', 'javascript:alert(1)', 'data:,x', 'unix:/run/x.sock', 'httpss://x/'],
    'when it holds user info': ['https://user@api.openai.com/', 'https://user:secret@api.openai.com/', 'https://:secret@api.openai.com/', 'https://@api.openai.com/', 'http://user@127.0.0.1/'],
    'when it has a fragment': ['https://api.openai.com/v1/responses#', 'https://api.openai.com/v1/responses#top', 'https://api.openai.com/#'],
    'when it is cleartext to anything but loopback': [
      'http://api.openai.com/v1/responses', 'http://10.0.0.1/', 'http://192.168.1.2:8080/', 'http://128.0.0.1/', 'http://126.255.255.255/', 'http://0.0.0.0/', 'http://[::]/', 'http://[::2]/', 'http://[fe80::1]/',
      'http://[::ffff:10.0.0.1]/', 'http://localhost.example.com/', 'http://127.0.0.1.example.com/', 'http://notlocalhost/', 'http://1270.0.0.1.example/', 'HTTP://API.OPENAI.COM/',
    ],
  };
  const cases = Object.entries(refused).flatMap(([reason, urls]) => urls.map((url): [string, string] => [reason, url]));
  test.for(cases)('%s: %s', async ([, url]) => {
    const { message, hint } = await misuseOf([`--upstream-url=${url}`]);
    expect(message).toContain('--upstream-url');
    expect(message + hint).not.toContain('secret');
  });
});

describe('cleartext is allowed to loopback', () => {
  test.for(['127.0.0.1', 'localhost', '127.0.0.2', '127.255.255.254', 'LOCALHOST', '[::1]'])('http://%s', async (host) => {
    expect((await optionsOf(['--upstream-url', `http://${host}:8080/`])).upstream.origin.host).toBe(`${host.toLowerCase()}:8080`);
  });

  test.for([['LOCALHOST', '127.0.0.1'], ['[::1]', '::1']])('and used: http://%s', async ([host, listenOn]) => {
    const upstream = await startUpstream({ tls: false, listenOn: listenOn ?? '', answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: ['--upstream-url', `http://${host}:${upstream.port}/v1/responses`] });
    const [response, request] = await Promise.all([ask(daemon.port), upstream.nextRequest()]);
    expect(response.status).toBe(200);
    expect(request.values('host').map((value) => value.toLowerCase())).toEqual([`${host}:${upstream.port}`.toLowerCase()]);
    expect(request.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
  });
});

describe('path and query are used as given', () => {
  const targets = [
    '/v1/responses', '/', '/a', '/v1/responses/', '/openai/v1/responses?api-version=preview', '/v1/responses?', '/v1//responses', '/?a=b',
    '/v1/%7Eresp%2Fonses?x=%20&y=a+b&z=%c3%a9', '/v1/%72esponses', '/v1/../responses', '/v1/./responses', '/v1/%2e%2e/responses', "/a;b=c/d,e/(f)*'!$&=+:@~", '/v1/responses?a=/../?b',
  ];
  test.for(targets)('%s', async (target) => {
    expect((await optionsOf(['--upstream-url', `https://example.com${target}`])).upstream.target).toBe(target);
  });

  test.for([['', '/'], ['?a=b', '/?a=b']])('no path is /: %j', async ([given, target]) => {
    expect((await optionsOf(['--upstream-url', `https://example.com${given}`])).upstream.target).toBe(target);
  });

  test('up to the upstream', async () => {
    const target = "/v1/../%72esp%2Fonses/./a;b=c//d,e/(f)*'!$&=+:@~?x=%20&y=a+b&z=%c3%a9/../?";
    const upstream = await startUpstream({ path: target, answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: upstream.args });
    const [response, request] = await Promise.all([ask(daemon.port), upstream.nextRequest()]);
    expect(response.status).toBe(200);
    expect(request.startLine).toBe(`POST ${target} HTTP/1.1`);
  });
});

describe('a base URL is told at start for what it is', () => {
  const line = '--upstream-url names no base URL, but where requests go: should its path be /v1/responses?';
  test.for([['', true], ['/', true], ['/v1', true], ['/v1/', true], ['/v1/responses', false], ['/v2', false], ['/?a=b', false]] as const)('path %j: %s', async ([path, isTold]) => {
    expect((await optionsOf([`--upstream-url=http://127.0.0.1:1${path}`])).notices).toEqual(isTold ? [line] : []);
  });

  test('unless --endpoint is the same', async () => {
    expect((await optionsOf(['--upstream-url', 'http://127.0.0.1:1/v1', '--endpoint', '/v1'])).notices).toEqual([]);
  });

  test('as a line of the log', async () => {
    expect((await startDaemon({ args: ['--upstream-url', 'http://127.0.0.1:1/v1'] })).stderr).toContain(`responses-api-proxy: ${line}\n`);
  });
});

test('the client\'s path is /v1/responses, independent of the upstream\'s', async () => {
  const upstream = await startUpstream({ path: '/openai/responses?api-version=1', answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  expect((await ask(daemon.port)).status).toBe(200);
  expect((await ask(daemon.port, { target: '/openai/responses?api-version=1' })).status).toBe(403);
  expect(upstream.requests).toHaveLength(1);
});
