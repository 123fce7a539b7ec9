import net from 'node:net';
import { cleanUp } from './cleanup.ts';
import { startDaemon, type Daemon } from './daemon.ts';
import { type Asked, ModelClient } from './model-client.ts';
import type { Mode, Step } from './model-schedule.ts';
import { type Message, type ModelConnection, type ModelUpstream, type Shared, startModelUpstream } from './model-upstream.ts';
import { policyArgs } from './policy.ts';
import { descriptorsOf } from './process-facts.ts';
import { Changing, within } from './wait.ts';

/** How long one thing may take, in ms. */
const patienceMs = 30_000;

/** After so many requests in a row without an event nothing moves any more. */
const [quietForSmall, quietForLarge] = [2, 150];

/** Errors of the daemon's own. Some of them need a reason: see `judge`. */
const ownErrors = ['upstream_unreachable', 'upstream_protocol', 'upstream_tls'];

/** A request that the daemon refuses by itself. */
const refused = (port: number): string => `POST /elsewhere HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 0\r\n\r\n`;

/** A daemon, its upstream and its clients. */
export class World {
  readonly daemon: Daemon;
  readonly #upstream: ModelUpstream;
  readonly #shared: SharedState;
  readonly #barrier: Barrier;
  readonly #baseline: number | undefined;
  #tags = 0;

  private constructor(daemon: Daemon, upstream: ModelUpstream, shared: SharedState, barrier: Barrier) {
    this.daemon = daemon;
    this.#upstream = upstream;
    this.#shared = shared;
    this.#barrier = barrier;
    this.#baseline = descriptorsOf(daemon.pid);
  }

  static async start({ link, gathers, keepsWarm }: Mode): Promise<World> {
    const shared = new SharedState();
    const upstream = await startModelUpstream(link, shared);
    const policy = gathers ? policyArgs({ models: ['m-*'], max_body_bytes: 16 * 1024 * 1024 }) : [];
    const daemon = await startDaemon({ args: [...upstream.args, ...policy] });
    shared.key = daemon.key;
    const barrier = new Barrier(daemon);
    await barrier.pass();
    if (keepsWarm) await shared.when(() => upstream.connections.some(({ isReady }) => isReady), 'a warm connection');
    await barrier.pass();
    return new World(daemon, upstream, shared, barrier);
  }

  /** Runs a schedule, and resolves with what happened that must not. */
  async run(steps: readonly Step[]): Promise<readonly string[]> {
    const shared = this.#shared;
    shared.reset();
    const clients = Array.from({ length: 4 }, () => new ModelClient(this.daemon.port, shared));
    const asked: Asked[] = [];
    try {
      for (const step of steps) await this.#do(step, clients, asked);
      const odd = oddityOf(steps);
      await this.#finish(clients, asked);
      for (const one of asked) this.#judge(one, odd);
      await this.#servesPlain();
      this.#disconnect(clients);
      await this.#descriptorsAreBack();
    } catch (error) {
      shared.fault(String(error));
    }
    if (this.daemon.exit !== undefined || /internal error/.test(this.daemon.stderr)) shared.fault(`the daemon ended: ${this.daemon.stderr.slice(-600)}`);
    return shared.faults;
  }

  async stop(): Promise<void> {
    this.daemon.signal('SIGKILL');
    await this.daemon.waitForExit();
    await this.#upstream.close();
  }

  async #do(step: Step, clients: readonly ModelClient[], asked: Asked[]): Promise<void> {
    if (step.do === 'settle') return this.#settle(asked);
    if (step.do === 'deafen') {
      this.#shared.isDeaf = true;
      return;
    }
    if ('client' in step) {
      const client = clients[step.client] as ModelClient;
      switch (step.do) {
        case 'ask': {
          const request = client.ask(`r${++this.#tags}`, step.kind);
          if (request !== undefined) asked.push(request);
          return;
        }
        case 'send rest': return client.sendRest();
        case 'pause': return client.pause();
        case 'resume': return client.resume();
        case 'leave': return client.leave(step.how);
      }
    }
    const open = this.#upstream.connections.filter(({ isReady }) => isReady).sort((a, b) => b.usedAt - a.usedAt);
    const connection = open[step.on];
    if (connection === undefined) return;
    switch (step.do) {
      case 'answer': return answerOldest(connection, (tag) => connection.answer(tag, step.kind, step.share));
      case 'surplus': return connection.answer(undefined, step.kind);
      case 'oddity': return connection.sendOdd(step.bytes);
      case 'end': return connection.end(step.how);
      case 'hold': return connection.hold(step.bytes);
      case 'release':
        await connection.written;
        return connection.release();
      case 'answer rest': return connection.sendRest();
      case 'stop': return connection.stop();
      case 'read': return connection.read();
      case 'half ticket': return connection.sendHalf();
      case 'update key': return connection.updateKey(step.requested);
    }
  }

  /** Waits until requests to the daemon change nothing any more. It reads a large body over many turns, and some bodies never go up. */
  async #settle(asked: readonly Asked[]): Promise<void> {
    const isGathering = ({ tag, kind, isOver, hasLeft }: Asked): boolean => kind === 'large' && !isOver && !hasLeft && !this.#shared.seen.some((seen) => seen.tag === tag);
    for (let quiet = 0; quiet < (asked.some(isGathering) ? quietForLarge : quietForSmall);) {
      const before = this.#shared.events;
      await this.#barrier.pass();
      quiet = this.#shared.events === before ? quiet + 1 : 0;
    }
    for (const connection of this.#upstream.connections) connection.settled();
  }

  /** Brings all that runs to an end: from now on the upstream is a plain one, or ends connections that it has confused. */
  async #finish(clients: readonly ModelClient[], asked: readonly Asked[]): Promise<void> {
    this.#shared.isPlain = true;
    this.#shared.isDeaf = false;
    for (const client of clients) {
      client.resume();
      client.sendRest();
    }
    for (const connection of this.#upstream.connections) {
      if (connection.isBetweenHalves) connection.sendHalf();
      connection.sendRest();
      if (!connection.isOdd) answerOldest(connection, (tag) => connection.answer(tag, 'length'));
      connection.release();
      if (connection.isOdd && !connection.isGone) connection.end(connection.isStopped ? 'RST' : 'FIN');
    }
    await this.#shared.when(() => this.daemon.exit !== undefined || asked.every(({ isOver, hasLeft }) => isOver || hasLeft), `answers to ${asked.filter(({ isOver, hasLeft }) => !isOver && !hasLeft).map(({ tag }) => tag).join()}`);
    await this.#settle(asked);
  }

  #judge({ tag, sentAt, hasLeft, got }: Asked, odd: boolean): void {
    if (got === undefined) return;
    const { status, message: id, isWhole, begins, bodyBytes } = got;
    if (id === undefined) {
      const code = /"code":"(\w+)"/.exec(begins)?.[1];
      if (!isWhole || code === undefined) return hasLeft ? undefined : this.#shared.fault(`${tag} got ${status} without a cause: ${begins}`);
      if (hasLeft || (ownErrors.includes(code) && (odd || code === 'upstream_unreachable'))) return;
      return this.#shared.fault(`${tag} was told ${status} ${code}`);
    }
    const message = this.#shared.messages.find((sent) => sent.id === id);
    if (message === undefined) return this.#shared.fault(`${tag} got the answer ${id} of another schedule`);
    if (!this.#mayGet(tag, sentAt, message)) this.#shared.fault(`${tag} got ${message.tag === undefined ? 'a surplus answer' : `the answer to ${message.tag}`}`);
    if (isWhole && bodyBytes !== message.bodyBytes && !message.endsWithConnection) this.#shared.fault(`${tag} got ${bodyBytes} of ${message.bodyBytes} bytes as a whole answer`);
    const expected = `${id};`.repeat(500).slice(0, Math.min(bodyBytes, 400));
    if (begins.slice(0, 400) !== expected && !odd) this.#shared.fault(`${tag} got another body`);
  }

  /**
   * Its own answer; or one on the same connection that was sent when the request might have been on its way, once there has been a surplus
   * one: HTTP/1.1 cannot tell these apart.
   */
  #mayGet(tag: string, sentAt: number, { tag: owner, arrivedAt, connection, stuckSince = Infinity, isBehindSurplus }: Message): boolean {
    if (owner === tag) return true;
    const seen = this.#shared.seen.find((request) => request.tag === tag);
    return isBehindSurplus && sentAt < arrivedAt && sentAt < stuckSince && (seen === undefined || seen.connection === connection);
  }

  /** The daemon lives, and serves whoever comes next. */
  async #servesPlain(): Promise<void> {
    const client = new ModelClient(this.daemon.port, this.#shared);
    const plain = client.ask(`r${++this.#tags}`, 'tiny') as Asked;
    await this.#shared.when(() => plain.isOver, 'an answer to a plain request');
    const owner = this.#shared.messages.find(({ id }) => id === plain.got?.message)?.tag;
    if (plain.got?.isWhole !== true || owner !== plain.tag) this.#shared.fault(`a plain request got ${JSON.stringify(plain.got)}`);
    client.leave('RST');
  }

  #disconnect(clients: readonly ModelClient[]): void {
    for (const client of clients) client.leave('RST');
    for (const connection of this.#upstream.connections) connection.destroy();
    this.#upstream.connections = [];
  }

  /** Plain users may not count a daemon's descriptors. */
  async #descriptorsAreBack(): Promise<void> {
    const count = (): number | undefined => descriptorsOf(this.daemon.pid);
    const deadline = performance.now() + 30_000;
    while ((count() ?? 0) > (this.#baseline ?? 0)) {
      if (performance.now() > deadline) throw new Error(`${count()} descriptors, ${this.#baseline} before`);
      await this.#barrier.pass();
    }
  }
}

/** Whether a schedule has the upstream send what no client can make sense of. */
function oddityOf(steps: readonly Step[]): boolean {
  return steps.some((step) => ['surplus', 'oddity', 'half ticket', 'update key', 'hold'].includes(step.do) || (step.do === 'answer' && step.share < 1));
}

function answerOldest(connection: ModelConnection, answer: (tag: string) => void): void {
  const seen = connection.unanswered;
  if (seen === undefined) return;
  seen.isAnswered = true;
  answer(seen.tag);
}

class SharedState implements Shared {
  key = '';
  readonly seen: Shared['seen'] = [];
  readonly messages: Shared['messages'] = [];
  faults: string[] = [];
  isDeaf = false;
  isPlain = true;
  events = 0;
  readonly #changing = new Changing();
  #now = 0;

  now(): number {
    return ++this.#now;
  }

  moved(): void {
    this.events++;
    this.#changing.changed();
  }

  fault(what: string): void {
    this.faults.push(what);
  }

  when(condition: () => boolean, what: string): Promise<unknown> {
    return this.#changing.when(() => (condition() ? true : undefined), () => what, patienceMs);
  }

  reset(): void {
    this.seen.length = 0;
    this.messages.length = 0;
    this.faults = [];
    this.isDeaf = false;
    this.isPlain = false;
  }
}

/** Requests, one after the other, that the daemon refuses by itself: when the answer is here, it has read what came before. */
class Barrier {
  readonly #daemon: Daemon;
  readonly #socket: net.Socket;
  #passed: (() => void) | undefined;
  #answer = '';

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
    this.#socket = net.connect({ port: daemon.port, host: '127.0.0.1', noDelay: true });
    cleanUp(() => this.#socket.destroy());
    const ended = (): void => this.#passed?.();
    this.#socket.on('error', ended).on('close', ended).setEncoding('latin1').on('data', (text: string) => {
      this.#answer += text;
      if (this.#answer.endsWith('}\n')) this.#passed?.();
    });
  }

  async pass(): Promise<void> {
    this.#answer = '';
    const passed = new Promise<void>((resolve) => (this.#passed = resolve));
    this.#socket.write(refused(this.#daemon.port));
    await within(passed, 'the daemon to refuse a request');
    if (!this.#answer.startsWith('HTTP/1.1 403')) throw new Error(`the daemon refuses nothing: ${this.#answer}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
