import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';

import { portThatItSays, script } from './peers.ts';
import type { Target } from './peers.ts';
import { startService } from './service.ts';
import type { Service } from './service.ts';
import { Client, answerTo, bodyOf } from './transfers.ts';

const kilobyte = 1024;
const coldBytes = 55 * kilobyte;
const coldRequests = 10;
const coldIntervalMs = 30;

/** Between a start or an end of connections and the next request: for as long as a distant handshake takes, and then some. */
const settleRoundTrips = 5;
const settleMs = 250;

/** How long a client that is started for one request waits for the first byte of its answer, in ms. */
export interface FirstByteFigures {
  /** The first request after the start. */
  readonly firstMs: number;
  readonly nextMs: number;
  /** The first after the upstream has closed the idle connections, as it does after minutes of silence. */
  readonly closedMs: number;
}

/** Something in between that makes the upstream distant. */
export interface Distance {
  readonly port: number;
  readonly roundTripMs: number;
  /** Closes all connections, as an upstream does to idle ones. */
  hangUp(): void;
  stop(): Promise<void>;
}

export async function startDistance(targetPort: number, roundTripMs: number): Promise<Distance> {
  const service = await startScript('distance.ts', [targetPort, roundTripMs]);
  return { port: service.port, roundTripMs, hangUp: () => { process.kill(service.pid, 'SIGUSR2'); }, stop: service.stop };
}

/** A proxy that understands CONNECT. */
export function startConnectProxy(): Promise<Service> {
  return startScript('connect-proxy.ts', []);
}

function startScript(name: string, args: readonly number[]): Promise<Service> {
  return startService({ name, file: process.execPath, env: { PATH: process.env['PATH'] }, args: [...script(name), ...args.map(String)], ready: portThatItSays });
}

/** @param proxyPort of a proxy that understands CONNECT, which the client is to go through */
export async function firstBytes(target: Target, distance: Distance, proxyPort?: number): Promise<FirstByteFigures> {
  const settle = (): Promise<void> => sleep(settleMs + settleRoundTrips * distance.roundTripMs);
  await settle();
  const firstMs = await firstByteMs(target, proxyPort);
  const nextMs = await firstByteMs(target, proxyPort);
  distance.hangUp();
  await settle();
  return { firstMs, nextMs, closedMs: await firstByteMs(target, proxyPort) };
}

/** One connection for one request, as `curl` or `codex exec` make it. */
async function firstByteMs({ protocol, port, token, caFile }: Target, proxyPort: number | undefined): Promise<number> {
  const ca = protocol === 'https:' ? readFileSync(caFile) : undefined;
  const startedAt = performance.now();
  const tcp = connect({ port: proxyPort ?? port, host: '127.0.0.1', noDelay: true });
  await once(tcp, 'connect');
  if (proxyPort !== undefined) await openTunnel(tcp, port);
  const socket = ca === undefined ? tcp : connectTls({ socket: tcp, servername: 'localhost', ca });
  if (ca !== undefined) await once(socket, 'secureConnect');
  socket.write(Buffer.concat([
    Buffer.from(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\nContent-Length: ${kilobyte}\r\n`
      + `${token === undefined ? '' : `Authorization: Bearer ${token}\r\n`}\r\n`),
    bodyOf(kilobyte),
  ]));
  let ms: number | undefined;
  let text = '';
  for await (const piece of socket as AsyncIterable<Buffer>) {
    ms ??= performance.now() - startedAt;
    text += piece.toString('latin1');
    if (text.includes(answerTo(kilobyte))) break;
  }
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.ok(ms !== undefined && text.includes(answerTo(kilobyte)), 'the answer to a fresh client');
  return ms;
}

async function openTunnel(socket: Socket, port: number): Promise<void> {
  socket.write(`CONNECT localhost:${port} HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`);
  const [answer] = await (once(socket, 'data') as Promise<[Buffer]>);
  socket.pause();
  assert.match(answer.toString('latin1'), /^HTTP\/1\.1 200 [^]*\r\n\r\n$/);
}

/** What requests of 55 KB take, in ms, each as a whole, where they begin to come right after the start: the first, and the next nine in the mean. */
export async function coldPath(target: Target): Promise<{ firstMs: number; nextMs: number }> {
  const client = new Client(target);
  const times: number[] = [];
  for (let count = 0; count < coldRequests; count += 1) {
    await sleep(coldIntervalMs);
    const startedAt = performance.now();
    const { text } = await client.post(coldBytes);
    times.push(performance.now() - startedAt);
    assert.equal(text, answerTo(coldBytes), 'an answer');
  }
  client.close();
  const [firstMs = Number.NaN, ...next] = times;
  return { firstMs, nextMs: next.reduce((sum, ms) => sum + ms, 0) / next.length };
}
