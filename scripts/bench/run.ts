import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { makeCertificates } from '../certificates.ts';
import { codexExchange, policyWithoutLimits } from './codex-exchange.ts';
import type { CodexExchange } from './codex-exchange.ts';
import { Figures } from './figures.ts';
import type { Column } from './figures.ts';
import { coldPath, firstBytes, startConnectProxy, startDistance } from './first-byte.ts';
import type { Distance } from './first-byte.ts';
import { Patience } from './patience.ts';
import { compile, daemon, missingFlags, portThatItSays, relay } from './peers.ts';
import type { Peer, Target, Upstream } from './peers.ts';
import { familyOf, residentBytes, watchMemory } from './process.ts';
import { checkAnswers, checkCodexAnswer, runRequests } from './requests.ts';
import type { RequestFigures } from './requests.ts';
import { startService } from './service.ts';
import { TooBusy, runStreams } from './streams.ts';
import type { StreamFigures, StreamLoad } from './streams.ts';
import { Client } from './transfers.ts';

/** What is measured, and how often. */
export interface Plan {
  /** How far away the upstream is for a fresh client's first byte, in ms, and how often that is measured. */
  readonly firstBytes: ReadonlyArray<{ roundTripMs: number; rounds: number }>;
  /** The same through a proxy that understands CONNECT, which is so far away. */
  readonly proxiedFirstBytes: ReadonlyArray<{ roundTripMs: number; rounds: number }>;
  readonly coldRounds: number;
  readonly requests: ReadonlyArray<{ connections: number; bodyBytes: number; rounds: number }>;
  readonly streams: ReadonlyArray<{ streams: number; events: number; rounds: number }>;
  readonly starts: number;
  /** How often a request is measured with an audit log and a policy, and without; 0 for not at all. */
  readonly auditRounds: number;
  /** How much time may be spent on runs that other programs disturb. */
  readonly patienceMs: number;
}

const kilobyte = 1024;

/** The same for every number of streams, so that only their number differs. */
const eventsPerSecond = 8_000;
const streamsOpenedPerSecond = 250;
const runSeconds = 1;
/** What V8 compiles as it runs is not all compiled after a second of requests. */
const warmUpSeconds = 3;
const bigUpload = { bytes: 512 * 1024 * 1024, bytesPerSecond: 400_000_000 };
const transferWarmUps = 100;
const warmUpRequests = 200;
const settleMs = 300;
const memoryLookMs = 5;
const busyRetries = 2;

/** Somebody who is measured, up and running. */
interface Running {
  readonly column: Column;
  readonly target: Target;
  /** Of all its processes, as they are now: nginx listens before it has workers. */
  pids(): number[];
  stop(): Promise<void>;
}

/** One run of the bench: what it measured, and what went wrong. */
export class Run {
  readonly figures = new Figures();
  /** Answers that were not as they should be, in words. */
  readonly wrong: string[] = [];
  readonly patience: Patience;
  readonly #plan: Plan;
  readonly #peers: readonly Peer[];
  readonly #folder: string;
  readonly #token = `sk-bench-${randomBytes(24).toString('base64url')}`;
  readonly #certificates = makeCertificates();

  constructor(plan: Plan, peers: readonly Peer[], folder: string) {
    this.#plan = plan;
    this.patience = new Patience(plan.patienceMs);
    // The bare relay is no peer, but the daemon's floor.
    this.#peers = peers.some(({ name }) => name === 'daemon') ? [...peers.filter(({ name }) => name !== 'relay'), relay] : peers;
    this.#folder = folder;
  }

  /** Measures everything in the plan. */
  async measure(): Promise<void> {
    const { cert, key } = this.#certificates;
    const files = { cert: join(this.#folder, 'cert.pem'), key: join(this.#folder, 'key.pem') };
    writeFileSync(files.cert, cert);
    writeFileSync(files.key, key, { mode: 0o600 });
    const loadProgram = compile('load', this.#folder);
    const upstreamProgram = compile('upstream', this.#folder);
    const exchange = codexExchange(this.#folder);
    const service = await startService({
      name: 'the upstream', file: upstreamProgram, args: [files.cert, files.key, this.#token, exchange.requestFile, exchange.answerFile], env: {}, ready: portThatItSays,
    });
    const upstream: Upstream = { port: service.port, caFile: this.#certificates.caFile, token: this.#token };
    await this.#measureFirstBytes(upstream);
    await this.#measureColdPath(upstream);
    await this.#measureStarts(upstream);
    await this.#measureRequests(upstream);
    await this.#measureAudit(upstream, exchange);
    await this.#measureTransfers(upstream);
    await this.#measureStreams(upstream, loadProgram);
    await service.stop();
  }

  #newFolder(): string {
    return mkdtempSync(join(this.#folder, 'service-'));
  }

  async #start(peer: Peer, upstream: Upstream): Promise<Running & { startMs: number }> {
    const folder = this.#newFolder();
    const service = await peer.start(upstream, folder);
    return {
      column: peer.name,
      target: { protocol: 'http:', port: service.port, token: undefined, caFile: '' },
      pids: () => familyOf(service.pid),
      startMs: service.startMs,
      async stop() {
        await service.stop();
        rmSync(folder, { recursive: true, force: true });
      },
    };
  }

  #direct(upstream: Upstream): Running {
    return { column: 'direct', target: { ...upstream, protocol: 'https:' }, pids: () => [], stop: () => Promise.resolve() };
  }

  /** A wrong answer spoils the run, and is told at its end; what follows may tell why. */
  async #attempt(column: Column, what: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      const text = `${column}, ${what}: ${error instanceof Error ? error.message : String(error)}`;
      this.wrong.push(text);
      say(`WRONG ${text}`);
    }
  }

  /** Measures, in quiet if possible, and notes what it brought under a name. */
  async #note(column: Column, name: string, measure: () => Promise<object>): Promise<void> {
    await this.#attempt(column, name, async () => { this.figures.add(column, name, await this.patience.quietly(measure)); });
  }

  async #measureFirstBytes(upstream: Upstream): Promise<void> {
    for (const { roundTripMs, rounds } of this.#plan.firstBytes) {
      say(`first byte of a fresh client: upstream ${roundTripMs} ms away`);
      const distance = await startDistance(upstream.port, roundTripMs);
      await this.#measureAtDistance(`firstByte/${roundTripMs}`, rounds, this.#peers, { ...upstream, port: distance.port }, distance);
      await distance.stop();
    }
    for (const { roundTripMs, rounds } of this.#plan.proxiedFirstBytes) {
      say(`first byte of a fresh client: proxy ${roundTripMs} ms away`);
      const proxy = await startConnectProxy();
      const distance = await startDistance(proxy.port, roundTripMs);
      const peers = this.#peers.filter(({ name }) => name === 'daemon').map(() => daemon(['--upstream-proxy', `http://127.0.0.1:${distance.port}`]));
      await this.#measureAtDistance(`proxiedFirstByte/${roundTripMs}`, rounds, peers, upstream, distance, distance.port);
      await distance.stop();
      await proxy.stop();
    }
  }

  /** @param proxyPort the proxy that a client goes through which goes by itself */
  async #measureAtDistance(name: string, rounds: number, peers: readonly Peer[], upstream: Upstream, distance: Distance, proxyPort?: number): Promise<void> {
    const { target } = this.#direct(upstream);
    await this.#attempt('direct', 'warm-up', async () => { await firstBytes(target, distance, proxyPort); });
    for (let round = 0; round < rounds; round += 1) {
      await this.#note('direct', name, () => firstBytes(target, distance, proxyPort));
      for (const peer of peers) await this.#note(peer.name, name, () => this.#fromItsStart(peer, upstream, (own) => firstBytes(own, distance)));
    }
  }

  async #measureColdPath(upstream: Upstream): Promise<void> {
    if (this.#plan.coldRounds === 0) return;
    say('cold path');
    const { target } = this.#direct(upstream);
    await this.#attempt('direct', 'warm-up', async () => { await coldPath(target); });
    for (let round = 0; round < this.#plan.coldRounds; round += 1) {
      await this.#note('direct', 'cold', () => coldPath(target));
      for (const peer of this.#peers) await this.#note(peer.name, 'cold', () => this.#fromItsStart(peer, upstream, coldPath));
    }
  }

  /** Measures at a peer that is started for it. */
  async #fromItsStart<T>(peer: Peer, upstream: Upstream, measure: (target: Target) => Promise<T>): Promise<T> {
    const running = await this.#start(peer, upstream);
    try {
      return await measure(running.target);
    } finally {
      await running.stop();
    }
  }

  async #measureStarts(upstream: Upstream): Promise<void> {
    say('start-up and idle memory');
    for (let round = 0; round < this.#plan.starts; round += 1) {
      for (const peer of this.#peers.filter(({ name }) => name !== 'relay')) { // tsx starts that one, and is no part of it
        await this.#note(peer.name, 'start', async () => {
          const running = await this.#start(peer, upstream);
          if (round === 0) await sleep(settleMs);
          const idleBytes = round === 0 ? residentBytes(running.pids()) : Number.NaN;
          await running.stop();
          return { startMs: running.startMs, idleBytes };
        });
      }
    }
  }

  async #measureRequests(upstream: Upstream): Promise<void> {
    const everybody = [this.#direct(upstream), ...await Promise.all(this.#peers.map((peer) => this.#start(peer, upstream)))];
    const answerBytes = new Map<Column, number>();
    for (const one of everybody) {
      await this.#attempt(one.column, 'answers', async () => { answerBytes.set(one.column, await checkAnswers(one.target)); });
    }
    const measured = everybody.filter(({ column }) => answerBytes.has(column));
    const run = async ({ column, target, pids }: Running, connections: number, bodyBytes: number, seconds: number): Promise<object> => (
      runRequests(target, { connections, body: bodyBytes, seconds }, pids(), answerBytes.get(column))
    );
    for (const { connections, bodyBytes, rounds } of this.#plan.requests) {
      say(`requests: ${connections} connections, ${bodyBytes / kilobyte} KB`);
      // At the very work that is measured: what V8 compiles would be in its first second.
      for (const one of measured.filter(isCompiledAsItRuns)) await this.#attempt(one.column, 'warm-up', async () => { await run(one, connections, bodyBytes, warmUpSeconds); });
      for (let round = 0; round < rounds; round += 1) {
        for (const one of measured) {
          await this.#note(one.column, `requests/${connections}/${bodyBytes}`, () => run(one, connections, bodyBytes, runSeconds));
        }
      }
    }
    for (const one of everybody) await one.stop();
  }

  /** What an audit log and a policy add to a request of Codex's at one connection: against the daemon without them, in turns. */
  async #measureAudit(upstream: Upstream, exchange: CodexExchange): Promise<void> {
    if (!this.#peers.some(({ name }) => name === 'daemon') || this.#plan.auditRounds === 0) return;
    const missing = missingFlags(['--audit-log', '--policy']);
    if (missing.length > 0) return say(`skipped: audit log and policy, for the daemon has no ${missing.join(' and no ')}`);
    say('audit log and policy');
    const folder = this.#newFolder();
    const auditLog = join(folder, 'audit.jsonl');
    const plain = await this.#start(daemon([]), upstream);
    const audited = await this.#start(daemon(['--audit-log', auditLog, '--policy', policyWithoutLimits(folder)]), upstream);
    await this.#attempt('daemon', 'audit', async () => {
      const run = async ({ target, pids }: Running): Promise<RequestFigures> => (
        runRequests(target, { connections: 1, body: exchange.requestFile, seconds: runSeconds }, pids(), undefined)
      );
      let requests = 0;
      for (const { target } of [plain, audited]) await checkCodexAnswer(target, exchange);
      for (let round = 0; round <= this.#plan.auditRounds; round += 1) {
        const without = await this.patience.quietly(() => run(plain));
        const figures = await this.patience.quietly(async () => {
          const ran = await run(audited);
          requests += ran.requests;
          return ran;
        });
        if (round === 0) continue; // warm-up
        this.figures.add('daemon', 'audit', { p50UsWithout: without.p50Ms * 1000, p50Us: figures.p50Ms * 1000, addedUs: (figures.p50Ms - without.p50Ms) * 1000, cpuUsWithout: without.cpuUs, cpuUs: figures.cpuUs });
      }
      await audited.stop();
      const records = readFileSync(auditLog, 'latin1').split('\n').filter((line) => line.includes('"decision":"allowed"')).length;
      if (records < requests) throw new Error(`${requests} requests, and ${records} of them in the audit log`);
    });
    for (const one of [plain, audited]) await one.stop();
  }

  async #measureTransfers(upstream: Upstream): Promise<void> {
    say('uploads and downloads');
    const peers = await Promise.all(this.#peers.map((peer) => this.#start(peer, upstream)));
    for (const { column, target } of peers) {
      await this.#attempt(column, 'transfers', async () => {
        const client = new Client(target);
        for (let i = 0; i < transferWarmUps; i += 1) {
          await client.upload(1_000_000);
          await client.download(1_000_000);
        }
        client.close();
      });
    }
    for (const { column, target, pids } of peers) {
      await this.#attempt(column, 'bigUpload', async () => {
        const client = new Client(target);
        const before = residentBytes(pids());
        const watch = watchMemory(pids(), memoryLookMs);
        await client.upload(bigUpload.bytes, bigUpload.bytesPerSecond);
        this.figures.add(column, 'bigUpload', { grewBytes: watch.stop() - before });
        client.close();
      });
    }
    for (const peer of peers) await peer.stop();
  }

  async #measureStreams(upstream: Upstream, program: string): Promise<void> {
    say('time to the first event');
    const sixEvents = { streams: 1, events: 6, intervalMs: 200, opensPerSecond: undefined };
    await Promise.all([undefined, ...this.#peers].map((peer) => this.#attempt(peer?.name ?? 'direct', 'first event', async () => {
      const { firstEventMs } = await this.#runStreams(upstream, peer, program, sixEvents);
      this.figures.add(peer?.name ?? 'direct', 'firstEvent', { firstEventMs });
    })));
    for (const { streams, events, rounds } of this.#plan.streams) {
      say(`event streams: ${streams}`);
      const load = { streams, events, intervalMs: streams / eventsPerSecond * 1000, opensPerSecond: streamsOpenedPerSecond };
      for (let round = 0; round < rounds; round += 1) {
        for (const peer of [undefined, ...this.#peers]) {
          await this.#note(peer?.name ?? 'direct', `streams/${streams}`, () => this.#runStreams(upstream, peer, program, load));
        }
      }
    }
  }

  /** Lets streams run through a peer that was started for it: what a run leaves behind in memory would be hidden from the next. */
  async #runStreams(upstream: Upstream, peer: Peer | undefined, program: string, load: StreamLoad, triesLeft = busyRetries): Promise<StreamFigures> {
    const { target, pids, stop } = peer === undefined ? this.#direct(upstream) : await this.#start(peer, upstream);
    try {
      const client = new Client(target);
      for (let i = 0; i < warmUpRequests; i += 1) await client.upload(kilobyte);
      client.close();
      return await runStreams(program, target, load, pids());
    } catch (error) {
      if (!(error instanceof TooBusy) || triesLeft === 0) throw error;
    } finally {
      await stop();
    }
    return this.#runStreams(upstream, peer, program, load, triesLeft - 1);
  }
}

/** The others are machine code from the start. */
function isCompiledAsItRuns({ column }: { readonly column: Column }): boolean {
  return column === 'daemon' || column === 'relay';
}

function say(text: string): void {
  console.error(`bench: ${text}`);
}
