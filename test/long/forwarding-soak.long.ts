import { expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { descriptorsOf, establishedTo, eventually, mebibyte, memoryOf } from '../support/process-facts.ts';
import { startBoth, uploadHead, type Proxied } from '../support/proxied.ts';
import { Random, seed } from '../support/random.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, streamHead, type UpstreamRequest } from '../support/upstream.ts';

const soakMs = Number(process.env['SOAK_SECONDS'] ?? 30) * 1_000;
const clients = 16;

/** What an upstream can do to a request, chosen by the request itself. */
const upstreamMoods: Readonly<Record<string, (request: UpstreamRequest) => void>> = {
  answers: (request) => void request.reply(answer(200, request.body)),
  streams: (request) => {
    void (async () => {
      await request.reply(streamHead());
      for (let event = 0; event < 10; event++) {
        await request.reply(chunk(`data: ${event}\n\n`));
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      await request.reply('0\r\n\r\n');
    })();
  },
  'answers and closes': (request) => {
    // Says so: a request that is sent into a close which nobody announced may well fail.
    void request.reply(answer(200, request.body, [['connection', 'close']]));
    request.connection.halfClose();
  },
  closes: (request) => request.connection.close(),
  resets: (request) => request.connection.reset(),
  'cuts its head': (request) => {
    void request.reply('HTTP/1.1 200 OK\r\nx-a');
    request.connection.close();
  },
  'cuts its body': (request) => {
    void request.reply('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n12345');
    request.connection.close();
  },
  'cuts its chunks': (request) => {
    void request.reply(`${streamHead()}5\r\n123`);
    request.connection.reset();
  },
  'talks garbage': (request) => void request.reply('garbage\r\n\r\n'),
  'is silent': () => {},
};

const whole = new Set(['answers', 'streams', 'answers and closes']);

/** One thing that a client can do, from beginning to end. */
async function act(both: Proxied, random: Random): Promise<string> {
  const { port } = both.daemon;
  const mood = random.pick(Object.keys(upstreamMoods));
  const leaves = mood === 'is silent' || random.chance(0.15);
  const client = await connect(port);
  const filler = Buffer.alloc(random.size(100_000), 'x');
  const headers = [['X-Mood', mood]] as const;
  if (random.chance(0.1)) {
    const refused = await ask(port, { method: 'GET', target: '/elsewhere' });
    expect(refused.status).toBe(403);
    client.close();
    return 'refused';
  }
  if (random.chance(0.5)) void client.send(rawRequest(port, { headers, body: filler }));
  else {
    void client.send(uploadHead(port, `X-Mood: ${mood}\r\nTransfer-Encoding: chunked`));
    for (const piece of random.split(filler, 5)) void client.send(chunk(piece));
    if (leaves && random.chance(0.3)) {
      client.reset();
      return 'left while it sent';
    }
    void client.send('0\r\n\r\n');
  }
  if (leaves) {
    await new Promise((resolve) => setTimeout(resolve, random.whole(0, 30)));
    if (random.chance(0.5)) client.close();
    else client.reset();
    return 'left';
  }
  if (random.chance(0.3)) {
    client.pause();
    setTimeout(() => client.resume(), random.whole(1, 50));
  }
  const response = await client.response({ timeoutMs: 20_000 }).catch((error: unknown) => {
    throw new Error(`a request whose upstream ${mood}, ${filler.length} bytes`, { cause: error });
  });
  client.close();
  if (whole.has(mood)) {
    expect([response.status, response.complete], mood).toEqual([200, true]);
    if (mood === 'streams') expect(response.text()).toMatch(/data: 9\n\n$/);
    else expect(response.body.equals(filler)).toBe(true);
  } else if (response.status === 502) {
    expect(envelopeOf(response).code).toMatch(/^upstream_(unreachable|protocol)$/);
  } else {
    expect([response.status, response.complete], mood).toEqual([200, false]);
  }
  return mood;
}

async function soak(both: Proxied, milliseconds: number, random: Random): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const end = performance.now() + milliseconds;
  const work = async (own: Random): Promise<void> => {
    while (performance.now() < end) {
      const done = await act(both, own);
      counts.set(done, (counts.get(done) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: clients }, () => work(new Random(random.whole(0, 2 ** 31)))));
  return counts;
}

test(`${soakMs / 1_000} s of mixed traffic with faults leave nothing behind (seed ${seed})`, { timeout: soakMs + 60_000 }, async () => {
  const both = await startBoth();
  both.startOver((request) => upstreamMoods[request.values('x-mood')[0] ?? 'answers']?.(request));
  const random = new Random(seed);

  await soak(both, 5_000, random);
  /** One connection to the upstream is kept ready for the next request. */
  const closeIdle = async (): Promise<void> => {
    for (const connection of both.upstream.openConnections) connection.close();
    await eventually(() => establishedTo(both.daemon.port) === 0 && establishedTo(both.upstream.port) <= 1, () => `connections to end: ${establishedTo(both.daemon.port)} from clients, ${establishedTo(both.upstream.port)} to the upstream`, 15_000);
  };
  /** Without that one, which may just be missing; 0 where we cannot look. */
  const handles = (): number => {
    const all = descriptorsOf(both.daemon.pid);
    return all === undefined ? 0 : all - establishedTo(both.upstream.port);
  };
  await closeIdle();
  const before = { handles: handles(), memory: memoryOf(both.daemon.pid).now };

  const counts = await soak(both, soakMs, random);
  console.log(`seed ${seed}: ${[...counts].map(([what, count]) => `${count} ${what}`).join(', ')}`);
  await closeIdle();

  await eventually(() => handles() <= before.handles, () => `handles: ${handles()}, before ${before.handles}`, 15_000);
  expect(memoryOf(both.daemon.pid).now - before.memory).toBeLessThan(64 * mebibyte);
  expect(memoryOf(both.daemon.pid).peak - before.memory).toBeLessThan(160 * mebibyte);
  both.startOver(answer(200, 'fine'));
  expect((await ask(both.daemon.port)).text()).toBe('fine');
  const exit = await both.daemon.stop();
  expect(exit.code).toBe(0);
  expect(exit.stderr).not.toMatch(/internal error/);
});
