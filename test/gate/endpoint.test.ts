import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { judged } from '../support/judged.ts';
import { ask, connect, exchange, rawRequest, type RawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';

let upstream: Upstream;
let daemon: Daemon;

beforeAll(async () => {
  upstream = await startUpstream({ answer: answer(200, '{"id":"resp_1"}') });
  daemon = await startDaemon({ args: upstream.args });
});

/** What was forwarded while `action` ran. */
async function forwardedBy(action: () => Promise<unknown>): Promise<number> {
  const before = upstream.requests.length;
  await action();
  return upstream.requests.length - before;
}

describe('POST /v1/responses is served', () => {
  const served: Record<string, RawRequest> = {
    'over HTTP/1.1': {},
    'over HTTP/1.0': { version: 'HTTP/1.0' },
    'without a body': { body: '' },
    'with any content type': { headers: [['Content-Type', 'text/plain']] },
  };
  test.for(Object.entries(served))('%s', async ([, request]) => {
    const response = await ask(daemon.port, request);
    expect(response.status).toBe(200);
    expect(response.text()).toBe('{"id":"resp_1"}');
  });
});

describe('any other method is refused', () => {
  const methods = ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'M-SEARCH', 'SOURCE'];
  test.for(methods)('%s /v1/responses', async (method) => {
    const forwarded = await forwardedBy(async () => {
      const response = await ask(daemon.port, { method });
      expect(response.status).toBe(403);
      if (method === 'HEAD') expect(response.body).toHaveLength(0);
      else expect(envelopeOf(response).message).toContain('POST /v1/responses');
    });
    expect(forwarded).toBe(0);
  });
});

describe('any other request target is refused', () => {
  const targets = [
    '/', '*', '/v1', '/v1/', '/responses', '/v1/models', '/v1/chat/completions',
    '/v1/responses/', '/v1/responses//', '/v1/responses/resp_1', '/v1/responses/resp_1/cancel', '/v1/responses/input_tokens',
    '/v1/responses?', '/v1/responses?a=b', '/v1/responses?stream=true', '/v1/responses#', '/v1/responses#top', '/v1/responses;a=b',
    '/V1/responses', '/v1/Responses', '/v1/RESPONSES',
    '//v1/responses', '/v1//responses', '/./v1/responses', '/v1/./responses', '/v1/../v1/responses', '/x/../v1/responses', '/v1/responses/.', '/v1/responses/x/..',
    '/v1/%72esponses', '/%76%31/responses', '/v1%2Fresponses', '/v1%2fresponses', '/v1/responses%2F', '/v1/responses%3F', '/v1/responses%20', '/v1/responses%00', '/v1/responses%0d%0a',
    '/v1\\responses', '/v1/responses\\', '/v1/responses.', '/v1/responses~', '/v1/response', '/v1/responsess', '/+v1/responses',
    '/shutdown', '/v1/shutdown', `/${'a'.repeat(10_000)}`,
    'http://127.0.0.1/v1/responses', 'http://localhost/v1/responses', 'https://api.openai.com/v1/responses', 'HTTP://127.0.0.1/v1/responses',
  ];
  test.for(targets)('POST %s', (target) => {
    expect(judged({ target })).toBe('403 endpoint_not_allowed');
  });

  test('and the answer says which one is served', async () => {
    const forwarded = await forwardedBy(async () => {
      for (const target of ['/v1/responses?', '/v1/../v1/responses', 'http://127.0.0.1/v1/responses', '*']) {
        const response = await ask(daemon.port, { target });
        expect(response.status).toBe(403);
        expect(envelopeOf(response).message).toContain('POST /v1/responses');
      }
    });
    expect(forwarded).toBe(0);
  });

  test('absolute-form with our own authority', async () => {
    const forwarded = await forwardedBy(async () => {
      const response = await ask(daemon.port, { target: daemon.url });
      expect(response.status).toBe(403);
      envelopeOf(response);
    });
    expect(forwarded).toBe(0);
  });

  test('an otherwise good target with bytes beyond ASCII', async () => {
    const forwarded = await forwardedBy(async () => {
      expect([400, 403]).toContain((await ask(daemon.port, { target: '/v1/responses\xff' })).status);
      expect([400, 403]).toContain((await ask(daemon.port, { target: '/v1/r\xc3\xa9sponses' })).status);
    });
    expect(forwarded).toBe(0);
  });
});

describe('CONNECT is refused', () => {
  test.for(['api.openai.com:443', '127.0.0.1:22', '/v1/responses'])('CONNECT %s', async (target) => {
    const forwarded = await forwardedBy(async () => {
      const response = await ask(daemon.port, { method: 'CONNECT', target });
      expect([400, 403]).toContain(response.status);
      // llhttp itself requires an authority as a CONNECT's target.
      if (target !== '/v1/responses') {
        expect(response.status).toBe(403);
        expect(envelopeOf(response).message).toContain('POST /v1/responses');
      }
    });
    expect(forwarded).toBe(0);
  });
});

describe('other HTTP versions are refused', () => {
  const versions: readonly [version: string, status: number][] = [
    ['HTTP/0.9', 403], ['HTTP/2.0', 403],
    ['HTTP/1.2', 400], ['HTTP/3.0', 400], ['HTTP/11.1', 400], ['HTTP/1', 400], ['HTTP/1.1.1', 400], ['http/1.1', 400], ['ICE/1.0', 400],
  ];
  test.for(versions)('POST /v1/responses %s: %i', async ([version, status]) => {
    const forwarded = await forwardedBy(async () => {
      const response = await ask(daemon.port, { version });
      expect(response.status).toBe(status);
      envelopeOf(response);
    });
    expect(forwarded).toBe(0);
  });

  test.for([
    ['without a Host', ''],
    ['with another Host', 'Host: evil.example\r\n'],
    ['from a browser', 'Host: 127.0.0.1:PORT\r\nOrigin: null\r\n'],
    ['otherwise good', 'Host: 127.0.0.1:PORT\r\n'],
  ])('what follows one is not taken for a request: HTTP/0.9, %s', async ([, lines = '']) => {
    const forwarded = await forwardedBy(async () => {
      const first = `POST /v1/responses HTTP/0.9\r\n${lines.replace('PORT', String(daemon.port))}Content-Length: 5\r\n\r\nhello`;
      const client = await connect(daemon.port);
      await client.send(Buffer.concat([Buffer.from(first), rawRequest(daemon.port)]));
      const { status } = await client.response();
      expect(status).toBe(403);
      await client.waitForClose();
    });
    expect(forwarded).toBe(0);
  });

  test('a request line without a version', async () => {
    const forwarded = await forwardedBy(async () => {
      const response = await exchange(daemon.port, 'POST /v1/responses\r\n\r\n');
      expect([400, 403]).toContain(response.status);
    });
    expect(forwarded).toBe(0);
  });

  test('the preface of HTTP/2', async () => {
    const forwarded = await forwardedBy(async () => {
      const response = await exchange(daemon.port, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0');
      expect([400, 403]).toContain(response.status);
    });
    expect(forwarded).toBe(0);
  });
});

describe('what is not HTTP is refused', () => {
  const garbage: Record<string, string> = {
    'a method in lower case': 'post /v1/responses HTTP/1.1\r\n\r\n',
    'an unknown method': 'POSTS /v1/responses HTTP/1.1\r\n\r\n',
    'a TLS client hello': '\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00',
    'an empty target': 'POST  HTTP/1.1\r\n\r\n',
    'a target without its slash': 'POST v1/responses HTTP/1.1\r\n\r\n',
    'a space in the target': 'POST /v1/ responses HTTP/1.1\r\n\r\n',
    'noise': '\0\0\0\0\r\n\r\n',
  };
  test.for(Object.entries(garbage))('%s', async ([, raw]) => {
    const forwarded = await forwardedBy(async () => {
      const client = await connect(daemon.port);
      await client.send(raw);
      const response = await client.response();
      expect(response.status).toBe(400);
      envelopeOf(response);
      expect(await client.waitForClose()).not.toBe('local');
    });
    expect(forwarded).toBe(0);
  });
});

describe('a refusal keeps the connection', () => {
  test.for<[string, RawRequest]>([
    ['a GET', { method: 'GET', target: '/v1/models' }],
    ['a POST with a small body', { target: '/v1/chat/completions', body: '{"model":"gpt"}' }],
    ['a HEAD', { method: 'HEAD' }],
  ])('after %s', async ([, request]) => {
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port, request));
    expect((await client.response({ bodiless: request.method === 'HEAD' })).status).toBe(403);
    if (request.method === 'HEAD') return;
    await client.send(rawRequest(daemon.port));
    expect((await client.response()).status).toBe(200);
  });
});

test('the body of a refused request is never taken for a request', async () => {
  const forwarded = await forwardedBy(async () => {
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port, { target: '/v1/models', body: rawRequest(daemon.port) }));
    expect((await client.response()).status).toBe(403);
    await client.send(rawRequest(daemon.port, { target: '/v1/models' }));
    expect((await client.response()).status).toBe(403);
  });
  expect(forwarded).toBe(0);
});
