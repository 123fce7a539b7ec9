import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { linesOf } from '../support/audit.ts';
import { misuseOf } from '../support/command-line.ts';
import type { HeaderLines } from '../support/http-bytes.ts';
import { startBoth } from '../support/proxied.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

const sent: HeaderLines[] = [
  [],
  [['Accept-Encoding', 'gzip, br, zstd']],
  [['accept_encoding', 'gzip'], ['ACCEPT-ENCODING', 'br'], ['accept-encoding', 'gzip;q=1']],
];

/** The flags for a policy in a file. */
function policy(rules: object): string[] {
  const file = join(scratchFolder(), 'policy.json');
  writeFileSync(file, JSON.stringify(rules));
  return ['--policy', file];
}

/** What goes up of each of `sent`. */
async function encodingsUpstream(args: readonly string[]): Promise<HeaderLines[]> {
  const both = await startBoth({ args, upstream: { answer: answer(200, '{}') } });
  for (const headers of sent) expect((await both.ask({ headers })).status).toBe(200);
  return both.upstream.requests.map((request) => request.headers.filter(([name]) => /^accept.encoding$/i.test(name)));
}

describe('passes like any other field', () => {
  test.for<[string, string[]]>([['by itself', []], ['with limits alone', policy({ limits: { concurrent: 9 } })]])('%s', async ([, args]) => {
    expect(await encodingsUpstream(args)).toEqual(sent);
  });

  test('and can be set like any other', async () => {
    expect(await encodingsUpstream(['--upstream-header', 'Accept-Encoding: br'])).toEqual(sent.map(() => [['Accept-Encoding', 'br']]));
  });
});

describe('is identity where the answer has to be read', () => {
  test.for<[string, string[]]>([['by the audit log', ['--audit-log', join(scratchFolder(), 'audit.log')]], ['by a limit', policy({ limits: { tokens_per_day: 1000 } })]])('%s', async ([, args]) => {
    expect(await encodingsUpstream(args)).toEqual(sent.map(() => [['Accept-Encoding', 'identity']]));
  });

  test('and cannot be set', async () => {
    for (const args of [['--upstream-header', 'accept_encoding: br'], ['--auth-header', 'Accept-Encoding']]) {
      for (const reader of ['--audit-log', '--policy']) expect((await misuseOf([...args, reader, 'file'])).message).toContain('Accept-Encoding');
    }
  });

  test('an upstream that compresses all the same: the answer passes, and the record says why it has no usage', async () => {
    const file = join(scratchFolder(), 'audit.log');
    const body = gzipSync('{"model":"gpt-5","usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}');
    const both = await startBoth({ args: ['--audit-log', file], upstream: { answer: answer(200, body, [['content-type', 'application/json'], ['content-encoding', 'gzip']]) } });
    expect((await both.ask()).body.equals(body)).toBe(true);
    const [record] = linesOf(file).filter(({ kind }) => kind === 'request');
    expect(record).toMatchObject({ unread_encoding: 'gzip', status: 200, ended: 'complete' });
    expect(record).not.toHaveProperty('usage');
  });
});
