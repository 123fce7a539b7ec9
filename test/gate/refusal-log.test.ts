import { expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { ask, connect, exchange, rawRequest, type RawRequest } from '../support/raw-client.ts';
import { startUpstream } from '../support/upstream.ts';

/** Longest line about a refusal. At most 200 characters of it come from the client. */
const maxLineLength = 400;

async function start(): Promise<Daemon> {
  const upstream = await startUpstream();
  return startDaemon({ args: [...upstream.args, '--http-shutdown'] });
}

function refusals(stderr: string): string[] {
  return stderr.split('\n').filter((line) => line.includes('refused'));
}

/** How many refusals the lines report: one each, and those before it that were not logged. */
function reported(lines: readonly string[]): number {
  return lines.reduce((sum, line) => sum + 1 + Number(/\((\d+) like it before were not logged\)$/.exec(line)?.[1] ?? 0), 0);
}

/** Lines of a kind in a burst, before they are counted alone. */
const burst = 100;

test('a burst of refusals is logged, each with its path; then one a second, with the count of the others', async () => {
  const daemon = await start();
  let asked = 0;
  const ask403 = async (target: string): Promise<void> => {
    asked++;
    expect((await ask(daemon.port, { method: 'GET', target })).status).toBe(403);
  };
  const since = performance.now();
  for (let count = 0; count < burst + 20; count++) await ask403(`/${count}`);
  const allowed = burst + 1 + Math.ceil((performance.now() - since) / 1_000);
  await expect.poll(() => refusals(daemon.stderr).length).toBeGreaterThanOrEqual(burst);
  expect(refusals(daemon.stderr).length).toBeLessThanOrEqual(allowed);
  // Another kind is not hidden by it.
  await ask(daemon.port, { host: 'evil.example' });
  await daemon.waitForStderr(/refused \(host_not_allowed\)/);
  const late = /refused \(endpoint_not_allowed\): "GET \/late".* \(\d+ like it before were not logged\)$/gm;
  // Two of them, because none may be counted a second time.
  await expect.poll(async () => {
    await ask403('/late');
    return daemon.stderr.match(late)?.length ?? 0;
  }).toBeGreaterThanOrEqual(2);
  const { stderr } = await daemon.stop();
  expect(reported(refusals(stderr).filter((line) => line.includes('endpoint_not_allowed')))).toBeLessThanOrEqual(asked);
});

test('2,800 refusals of all kinds make lines that are bounded', async () => {
  const daemon = await start();
  const since = performance.now();
  const kept: RawRequest[] = [{ method: 'GET' }, { target: '/v1/models' }, { host: 'evil.example' }, { headers: [['Origin', 'null']] }, { method: 'OPTIONS', target: '*' }];
  const closing = ['\r\nx\r\n\r\n', `POST / HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nTransfer-Encoding: x\r\n\r\n`, `POST / HTTP/1.1\r\nX: ${'y'.repeat(70_000)}`];
  await Promise.all(Array.from({ length: 4 }, async (_, number) => {
    for (let batch = 0; batch < 15; batch++) {
      const client = await connect(daemon.port);
      for (let count = 0; count < 40; count++) {
        await client.send(rawRequest(daemon.port, { ...kept[count % kept.length], target: `/${number}/${batch}/${count}` }));
        expect((await client.response()).status).toBe(403);
      }
      client.close();
    }
    for (let count = 0; count < 100; count++) await exchange(daemon.port, closing[count % closing.length] ?? '');
  }));
  const { code, stderr } = await daemon.stop();
  const seconds = Math.ceil((performance.now() - since) / 1_000);
  expect(code).toBe(0);
  const lines = refusals(stderr);
  const kinds = new Set(lines.map((line) => /refused \((\w+)\)/.exec(line)?.[1]));
  expect(kinds.size).toBeLessThanOrEqual(6);
  expect(lines.length).toBeLessThanOrEqual(kinds.size * (burst + seconds));
  expect(reported(lines)).toBeLessThanOrEqual(2_800);
});

test('a client\'s text is escaped and truncated', async () => {
  const texts = ['/\x1b[2J\x1b[31mred', '/\xff\xfe', '/\xe2\x80\xae', '/"quoted"\\', `/${'a'.repeat(20_000)}`, '/\x7f', '/\x9b31m', '/$(reboot)`reboot`', '/%0a%1b[31m', '/\xc2\x85x', '/…', '/<script>'];
  const daemon = await start();
  for (let first = 0; first < texts.length; first += 4) {
    const target = (index: number): string => Buffer.from(texts[first + index] ?? '', 'latin1').toString('latin1');
    await exchange(daemon.port, rawRequest(daemon.port, { target: target(0), headers: [['Authorization', target(0)]] }));
    await exchange(daemon.port, rawRequest(daemon.port, { target: target(1), host: target(1) }));
    await exchange(daemon.port, rawRequest(daemon.port, { target: target(2), headers: [['Origin', target(2)]] }));
    await exchange(daemon.port, rawRequest(daemon.port, { target: target(3), headers: [['Transfer-Encoding', target(3)]] }));
  }
  const { stderr } = await daemon.stop();
  expect(stderr).toMatch(/^(responses-api-proxy(:| listening).*\n)+$/);
  expect(stderr).toMatch(/^[\n\x20-\x7e…]*$/);
  const lines = refusals(stderr);
  expect(lines).toHaveLength(texts.length);
  for (const line of lines) expect(line.length).toBeLessThan(maxLineLength);
});

const secretive = [
  ['GET', '/v1/models?key=hunter2', 'GET /v1/models?...'],
  ['GET', '/v1/models#hunter2', 'GET /v1/models#...'],
  ['GET', '/v1/models#hunter2?hunter2', 'GET /v1/models#...'],
  ['GET', 'http://user:hunter2@example.com/v1/models?hunter2', 'GET http://...@example.com/v1/models?...'],
  ['CONNECT', 'user:hunter2@example.com:443', 'CONNECT ...@example.com:443'],
] as const;

test('no possible secret of a target is logged', async () => {
  const daemon = await start();
  for (const [method, target] of secretive) await exchange(daemon.port, rawRequest(daemon.port, { method, target }));
  const { stderr } = await daemon.stop();
  expect(refusals(stderr).map((line) => /"(.*)"/.exec(line)?.[1])).toEqual(secretive.map(([, , told]) => told));
  expect(stderr).not.toContain('hunter2');
});

test('a client\'s bytes cannot forge a line of the log', async () => {
  const daemon = await start();
  for (const text of ['/\nresponses-api-proxy: forged', '/\rresponses-api-proxy: forged', '/\r\nresponses-api-proxy: forged', '/\0responses-api-proxy: forged', '/\u0085responses-api-proxy: forged']) {
    await exchange(daemon.port, rawRequest(daemon.port, { method: 'GET', target: text }));
    await exchange(daemon.port, rawRequest(daemon.port, { method: text }));
  }
  const { stderr } = await daemon.stop();
  expect(stderr).not.toMatch(/^responses-api-proxy: forged/m);
  expect(stderr).toMatch(/^(responses-api-proxy(:| listening).*\n)+$/);
});
