import { describe, expect, test } from 'vitest';
import { credentialHeaders } from '../support/credentials.ts';
import { misuseOf, optionsOf } from '../support/command-line.ts';
import { startDaemon } from '../support/daemon.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { ask } from '../support/raw-client.ts';
import { answer, startUpstream, type UpstreamRequest } from '../support/upstream.ts';

/** The request that the upstream gets for one with `headers`, and the key that should be in it. */
async function sent(flags: readonly string[], headers: HeaderLines = []): Promise<{ request: UpstreamRequest; key: string }> {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, ...flags] });
  const [response, request] = await Promise.all([ask(daemon.port, { headers }), upstream.nextRequest()]);
  expect(response.status).toBe(200);
  expect(request.rawHead.split(daemon.key)).toHaveLength(2);
  return { request, key: daemon.key };
}

const azure = credentialHeaders['api-key, as Azure wants it'].args;

test('--auth-header with a name alone: the key goes where Azure wants it, and nowhere else', async () => {
  const { request, key } = await sent(azure, [['Authorization', 'Bearer theirs'], ['API-Key', 'theirs'], ['X-Other', 'stays']]);
  expect(request.values('api-key')).toEqual([key]);
  expect(request.values('authorization')).toEqual([]);
  expect(request.values('x-other')).toEqual(['stays']);
  expect(request.rawHead).not.toContain('theirs');
});

// A gateway that passes headers as variables (RFC 3875 section 4.1.18) takes `_` for `-`, and the last one may win.
test('a client\'s header of that name stays here however it is spelt, and however often', async () => {
  const spellings = ['api-key', 'API-KEY', 'Api-Key', 'api_key', 'API_Key', 'authorization', 'AUTHORIZATION'];
  const { request, key } = await sent(azure, [...spellings, ...spellings].map((name) => [name, 'theirs'] as const));
  expect(request.values('api-key')).toEqual([key]);
  expect(request.rawHead).not.toContain('theirs');
});

test('a name with underscores has the same namesakes', async () => {
  const { request, key } = await sent(['--auth-header', 'X_API_KEY'], [['X-Api-Key', 'theirs'], ['x_api-key', 'theirs'], ['XAPIKEY', 'stays']]);
  expect(request.values('X_API_KEY')).toEqual([key]);
  expect(request.values('xapikey')).toEqual(['stays']);
  expect(request.rawHead).not.toContain('theirs');
});

test('a client cannot take it away by naming it in Connection', async () => {
  const { request, key } = await sent(azure, [['Connection', 'close, api-key, Authorization'], ['api-key', 'theirs']]);
  expect(request.values('api-key')).toEqual([key]);
  expect(request.values('connection')).toEqual(['keep-alive']);
});

test.for([['Authorization: Token', 'authorization', 'Token '], ['x-key:\tBearer', 'x-key', 'Bearer '], ['Authorization', 'authorization', '']] as const)('--auth-header %j', async ([given, name, before]) => {
  const { request, key } = await sent(['--auth-header', given]);
  expect(request.values(name)).toEqual([before + key]);
});

test.for(["0!#$%&'*+.^_`|~", 'x'.repeat(256)])('--auth-header may be %s', async (name) => {
  expect((await optionsOf(['--auth-header', name])).authHeader).toBe(name);
});

test.for(['__proto__', 'Content-Type'])('--auth-header %s is just a name', async (name) => {
  const { request, key } = await sent(['--auth-header', name], [[name, 'theirs']]);
  expect(request.values(name)).toEqual([key]);
  expect(request.rawHead).not.toContain('theirs');
});

describe('refused at start', () => {
  const names = [
    ...['Host', 'Content-Length', 'TRANSFER_ENCODING', 'Connection', 'TE', 'Proxy-Authorization', 'Expect'],
    ...['two words', 'api-key\r\nX-Injected: 1', 'é', 'x'.repeat(257), ': Bearer', 'a:', 'a: ', 'a: two words', 'a: b:c', 'a: Bearer ', 'a: Bearer\r\nX-Injected: 1', `a: ${'x'.repeat(257)}`],
  ];
  test.for(names)('--auth-header %j', async (name) => {
    expect((await misuseOf([`--auth-header=${name}`])).message).toContain('--auth-header');
  });
});
