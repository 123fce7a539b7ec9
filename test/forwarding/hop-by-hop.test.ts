import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { HeaderLines } from '../support/http-bytes.ts';
import { startBoth, type Proxied } from '../support/proxied.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver(answer(200, '{}')));

/** RFC 9110 section 7.6.1, and the proxy fields of section 11.7. Transfer-Encoding is in body-framing.test.ts. */
const hopByHop: HeaderLines = [
  ['Keep-Alive', 'timeout=5, max=100'],
  ['TE', 'trailers, deflate;q=0.5'],
  ['Trailer', 'X-Checksum'],
  ['Upgrade', 'h2c'],
  ['Proxy-Authorization', 'Basic c2VjcmV0'],
  ['Proxy-Authenticate', 'Basic realm="x"'],
  ['Proxy-Authentication-Info', 'nextnonce="1"'],
  ['Proxy-Connection', 'keep-alive'],
  ['Proxy-Status', 'x; error=y'],
];

const cases = (name: string): string[] => [name, name.toLowerCase(), name.toUpperCase()];

async function upwards(headers: HeaderLines): Promise<HeaderLines> {
  const [response, request] = await Promise.all([ask(both.daemon.port, { headers }), both.nextRequest()]);
  expect(response.status).toBe(200);
  return request.headers;
}

async function downwards(headers: HeaderLines): Promise<HeaderLines> {
  both.upstream.answerWith(answer(200, '{}', headers));
  const [response] = await Promise.all([ask(both.daemon.port), both.nextRequest()]);
  both.upstream.answerWith(answer(200, '{}'));
  expect(response.text()).toBe('{}');
  return response.headers;
}

test.for(['Transfer_Encoding: chunked', 'CONTENT_LENGTH: 5', 'proxy_authorization: Basic c2VjcmV0', 'Keep_Alive: 5', 'Proxy-Auth_Info: x'])(
  'nor does a client\'s %s pass, which some server behind could take for what it means with hyphens',
  async (line) => {
    const [name = '', value = ''] = line.split(': ');
    const passed = await upwards([['X-Before_1', '1'], [name, value], ['x_after', '2']]);
    expect(names(passed)).not.toContain(name.toLowerCase());
    expect(passed).toContainEqual(['X-Before_1', '1']);
    expect(passed).toContainEqual(['x_after', '2']);
  },
);

const names = (headers: HeaderLines): string[] => headers.map(([name]) => name.toLowerCase());

describe.for([['up', upwards], ['down', downwards]] as const)('on the way %s', ([direction, pass]) => {
  test.for(hopByHop)('%s is removed, in any case', async ([name, value]) => {
    for (const spelt of cases(name)) {
      const passed = await pass([['X-Before', '1'], [spelt, value], ['X-After', '2']]);
      // Towards the client the daemon may send its own Connection.
      const foreign = passed.filter(([, passedValue]) => passedValue === value);
      expect(names(foreign)).not.toContain(name.toLowerCase());
      if (!(direction === 'down' && name === 'Keep-Alive')) expect(names(passed)).not.toContain(name.toLowerCase());
      expect(passed).toContainEqual(['X-Before', '1']);
      expect(passed).toContainEqual(['X-After', '2']);
    }
  });

  test('fields that Connection names are removed, with Connection itself', async () => {
    const passed = await pass([
      ['X-One', '1'],
      ['Connection', 'x-one,  X-TWO ,keep-alive'],
      ['x-two', '2'],
      ['X-Three', '3'],
      ['connection', 'X-Four'],
      ['X-Two', 'again'],
      ['X-FOUR', '4'],
    ]);
    expect(names(passed)).not.toEqual(expect.arrayContaining(['x-one']));
    expect(names(passed)).not.toEqual(expect.arrayContaining(['x-two']));
    expect(names(passed)).not.toEqual(expect.arrayContaining(['x-four']));
    expect(passed).toContainEqual(['X-Three', '3']);
    for (const [name, value] of passed) if (name.toLowerCase() === 'connection') expect(value).toMatch(/^(keep-alive|close)$/);
  });

  test('an odd Connection header does no harm', async () => {
    for (const odd of ['', ',', ' , ,', 'x y', '"x-one"', 'x-one;q=1', 'a'.repeat(2_000)]) {
      const passed = await pass([['Connection', odd], ['X-Three', '3']]);
      expect(passed).toContainEqual(['X-Three', '3']);
      expect(passed.map(([, value]) => value)).not.toContain(odd === '' ? undefined : odd);
    }
  });
});

describe('Connection cannot take away what a request needs', () => {
  test.for(['authorization', 'content-length', 'host', 'content-type, content-length', 'transfer-encoding', 'connection'])('%s', async (named) => {
    const [response, request] = await Promise.all([ask(both.daemon.port, { headers: [['Connection', named]], body: 'whole' }), both.nextRequest()]);
    expect(response.status).toBe(200);
    expect(request.isComplete).toBe(true);
    expect(request.body.toString()).toBe('whole');
    expect(request.values('authorization')).toEqual([`Bearer ${both.daemon.key}`]);
    expect(request.values('host')).toEqual([`localhost:${both.upstream.port}`]);
    expect(request.values('content-length')).toEqual(['5']);
  });
});

test('the upstream\'s Connection: close is the upstream\'s: the client\'s connection stays', async () => {
  both.upstream.answerWith(answer(200, '{}', [['Connection', 'close']]));
  const client = await connect(both.daemon.port);
  for (let count = 0; count < 3; count++) {
    await client.send(rawRequest(both.daemon.port));
    const response = await client.response();
    expect(response.status).toBe(200);
    expect(response.values('connection').join()).not.toMatch(/close/);
    await both.nextRequest();
  }
  both.upstream.answerWith(answer(200, '{}'));
  expect(client.ending).toBe(undefined);
});

test('the client\'s Connection: close is the client\'s: the upstream\'s connection stays', async () => {
  expect((await ask(both.daemon.port)).status).toBe(200);
  await both.nextRequest();
  const open = both.upstream.openConnections.length;
  const client = await connect(both.daemon.port);
  await client.send(rawRequest(both.daemon.port, { headers: [['Connection', 'close']] }));
  const response = await client.response();
  expect(response.values('connection')).toEqual(['close']);
  expect(await client.waitForClose()).toBe('end');
  const request = await both.nextRequest();
  expect(request.values('connection').join()).not.toMatch(/close/);
  expect(both.upstream.openConnections).toHaveLength(open);
});
