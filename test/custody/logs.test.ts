import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { randomKey, startDaemon, type Daemon } from '../support/daemon.ts';
import { chunk } from '../support/http-bytes.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { openFilesOf } from '../support/process.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, streamHead, type Upstream } from '../support/upstream.ts';

/** What must not appear in any log: the client's credential, its body, the upstream's body. */
const theirs = randomKey();
const requestBody = `{"input":"${randomKey()}"}`;
const answerBody = `{"output":"${randomKey()}"}`;

/** One of everything that is logged, each with a credential and a body. */
async function makeNoise(daemon: Daemon, upstream: Upstream): Promise<void> {
  const authorization = [['Authorization', `Bearer ${theirs}`]] as const;
  const request = { headers: authorization, body: requestBody };
  const { key } = daemon;

  upstream.answerWith(answer(200, answerBody));
  expect((await ask(daemon.port, request)).status).toBe(200);
  // Refusals, by the gate and by the parser.
  for (const refused of [{ method: 'GET' }, { target: '/v1/files' }, { host: 'example.com' }, { headers: [...authorization, ['Origin', 'https://example.com']] as const }, { headers: [...authorization, ['Expect', 'miracles']] as const }]) {
    await ask(daemon.port, { ...request, ...refused });
  }
  for (const raw of [`POST /v1/responses HTTP/1.1\r\nAuthorization: Bearer ${theirs}\r\nBad Header: ${requestBody}\r\n\r\n`, `${theirs}\r\n\r\n`, `CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nAuthorization: Bearer ${theirs}\r\n\r\n`, `POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nX: ${'x'.repeat(70_000)}\r\nAuthorization: Bearer ${theirs}\r\n\r\n`]) {
    const client = await connect(daemon.port);
    await client.send(raw);
    client.halfClose();
    await client.waitForClose();
  }
  // Upstream failures, each with the key and a body.
  for (const raw of [`${key}\r\n\r\n`, `HTTP/1.1 200 ${key}\r\nx: ${key}\r\ncontent-length: z${key}\r\n\r\n${answerBody}`, `HTTP/1.1 200 OK\r\n${key} ${answerBody}\r\n\r\n`, `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${answerBody}\r\n`]) {
    upstream.answerWith((received) => {
      void received.reply(raw).then(() => received.connection.halfClose());
    });
    await ask(daemon.port, request).catch(() => {});
  }
  upstream.answerWith((received) => received.connection.reset());
  expect((await ask(daemon.port, request)).status).toBe(502);
  upstream.answerWith(answer(401, answerBody));
  expect((await ask(daemon.port, request)).status).toBe(401);
  upstream.answerWith((received) => {
    void received.reply(`${streamHead()}${chunk(answerBody).toString('latin1')}`).then(() => received.connection.reset());
  });
  expect((await ask(daemon.port, request)).complete).toBe(false);
  // A client that leaves in the middle of its upload.
  upstream.answerWith(answer(200, answerBody));
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port, request).subarray(0, -1));
  client.reset();
  expect((await ask(daemon.port, request)).status).toBe(200);
}

function expectNoSecretIn(text: string, key: string): void {
  for (const secret of [key, theirs, requestBody.slice(10, -2), answerBody.slice(11, -2)]) expectNoPieceOf(secret, text);
}

test('no output of the daemon holds a key, a credential or a body, even when everything goes wrong', async () => {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  await makeNoise(daemon, upstream);
  const exit = await daemon.stop();
  expect(exit.stdout).toBe('');
  expect(exit.stderr.split('\n').length).toBeGreaterThan(5);
  expectNoSecretIn(exit.stderr, daemon.key);
});

test('it has no file open that it could write to, and opens none', async (context) => {
  needs(context, 'root', 'command strace');
  const folder = scratchFolder();
  const trace = join(scratchFolder(), 'trace');
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args, cwd: folder, env: { HOME: folder, TMPDIR: folder } });
  const strace = spawn('strace', ['-qq', '-f', '-o', trace, '-e', 'trace=open,openat,openat2,creat,rename,link,symlink,mkdir,mkdirat,mknod', '-p', String(daemon.pid)], { stdio: ['ignore', 'ignore', 'pipe'] });
  cleanUp(() => strace.kill('SIGKILL'));
  // The control: it is attached once it has seen what a request of ours leads to, or is known to the kernel as the tracer.
  await expect.poll(() => /^TracerPid:\t[1-9]/m.test(readFileSync(`/proc/${daemon.pid}/status`, 'utf8')), { interval: 10 }).toBe(true);
  await makeNoise(daemon, upstream);
  const regular = openFilesOf(daemon.pid).filter(({ target, isWritable }) => isWritable && target.startsWith('/') && !target.startsWith('/dev/'));
  expect(regular).toEqual([]);
  await daemon.stop();
  const calls = readFileSync(trace, 'utf8').split('\n').filter((line) => /O_WRONLY|O_RDWR|O_CREAT|creat\(|rename\(|link\(|mkdir|mknod/.test(line) && !line.includes('"/dev/null"'));
  expect(calls).toEqual([]);
  expect(readdirSync(folder)).toEqual([]);
});

test('what it writes to anything but a connection holds none of it either', async (context) => {
  needs(context, 'root', 'command strace');
  const trace = join(scratchFolder(), 'trace');
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  const strace = spawn('strace', ['-qq', '-f', '-yy', '-s', '100000', '-o', trace, '-e', 'trace=write,writev,pwrite64,sendto,sendmsg', '-p', String(daemon.pid)], { stdio: ['ignore', 'ignore', 'pipe'] });
  cleanUp(() => strace.kill('SIGKILL'));
  await expect.poll(() => /^TracerPid:\t[1-9]/m.test(readFileSync(`/proc/${daemon.pid}/status`, 'utf8')), { interval: 10 }).toBe(true);
  await makeNoise(daemon, upstream);
  await daemon.stop();
  const writes = readFileSync(trace, 'utf8').split('\n').filter((line) => /\b(write|writev|pwrite64|sendto|sendmsg)\(/.test(line));
  // The control: what goes to a client is among them.
  expect(writes.some((line) => line.includes('TCP:') && line.includes('HTTP/1.1 200'))).toBe(true);
  expectNoSecretIn(writes.filter((line) => !line.includes('<TCP:')).join('\n'), daemon.key);
  // And in the clear the key goes nowhere at all.
  expectNoPieceOf(daemon.key, writes.join('\n'), 16);
});
