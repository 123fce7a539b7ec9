import { beforeAll, describe, expect, test } from 'vitest';
import { misuseOf } from '../support/command-line.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { type Proxied, startBoth } from '../support/proxied.ts';
import { answer, type UpstreamRequest } from '../support/upstream.ts';

const value = `a: b, "c" = \t'd'; e\\f ${'~!@#$%^&*()[]{}<>?/|`'.repeat(3)}`;

const own = ['OpenAI-Organization: org-1', 'X-Empty:', 'OpenAI-Project: proj-1', `X-Value: \t ${value} \t`, `X-Long:${'v'.repeat(30_000)}`, 'Content-Type: application/json'];

let both: Proxied;

beforeAll(async () => {
  both = await startBoth({ args: own.flatMap((header) => ['--upstream-header', header]), upstream: { answer: answer(200, '{}') } });
});

/** The request that the upstream gets for one with `headers`. */
async function sent(headers: HeaderLines): Promise<UpstreamRequest> {
  both.startOver(answer(200, '{}'));
  const [response, request] = await Promise.all([both.ask({ headers }), both.nextRequest()]);
  expect(response.status).toBe(200);
  expect(request.values('authorization')).toEqual([`Bearer ${both.daemon.key}`]);
  return request;
}

test('--upstream-header is sent in place of the client\'s, once for each', async () => {
  const request = await sent([['openai-organization', 'theirs'], ['OPENAI-ORGANIZATION', 'theirs'], ['x-empty', 'theirs'], ['X-Other', 'stays']]);
  expect(request.values('openai-organization')).toEqual(['org-1']);
  expect(request.values('x-empty')).toEqual(['']);
  expect(request.values('x-other')).toEqual(['stays']);
  expect(request.rawHead).not.toContain('theirs');
});

// See auth-header.test.ts.
test('a client cannot add to it with underscores, nor take it away by naming it in Connection', async () => {
  const request = await sent([['OpenAI_Project', 'theirs'], ['OPENAI-Project', 'theirs'], ['Connection', 'OpenAI-Project']]);
  expect(request.values('openai-project')).toEqual(['proj-1']);
  expect(request.rawHead).not.toContain('theirs');
});

test('the value is everything between the surrounding spaces', async () => {
  const request = await sent([]);
  expect(request.values('x-value')).toEqual([value]);
  expect(request.values('x-long')).toEqual(['v'.repeat(30_000)]);
});

test('Content-Type can be set', async () => {
  expect((await sent([['content-type', 'text/plain']])).values('content-type')).toEqual(['application/json']);
});

describe('refused at start', () => {
  test.for([
    ...['no colon', ': no name', 'two words: x', 'X : y', 'Ä: x'],
    ...['Host: x', 'content_length: 1', 'Transfer-Encoding: chunked', 'Connection: close', 'Proxy-Authorization: x', 'Expect: 100-continue'],
    ...['AUTHORIZATION: x', 'X: a\nb', 'X: a\rb', 'X: a\n', 'X: a\u007fb', 'X: é'],
  ])('%j', async (header) => {
    expect((await misuseOf([`--upstream-header=${header}`])).message).toContain('--upstream-header');
  });

  test.for(['API-KEY: x', 'api_key: x'])('the header that carries the key: %s', async (header) => {
    expect((await misuseOf(['--auth-header', 'api-key', '--upstream-header', header])).message).toContain('--upstream-header');
  });

  test.for([['X-A: 1', 'X-B: 2', 'x-a: 3'], ['X-A: 1', 'X_A: 2']])('the same name twice: %j', async (headers) => {
    expect((await misuseOf(headers.flatMap((header) => ['--upstream-header', header]))).message).toMatch(/--upstream-header x.a was given twice/i);
  });

  test('without repeating the value, which may be a secret', async () => {
    const { message, hint } = await misuseOf(['--upstream-header', 'X-Secret: s3cret\u0001']);
    expect(message).toContain('X-Secret');
    expect(message + hint).not.toContain('s3cret');
  });
});
