import type { IncomingMessage } from 'node:http';
import type { RawHeaders } from '../gate/raw-headers.ts';
import type { Field } from './headers.ts';
import type { Denial } from './problem.ts';
import type { Upstream } from './upstream.ts';

/** What is known of a request once its head is complete. */
export interface RequestHead {
  /** The user at the other end; undefined where nothing asked for it, or the kernel does not know. */
  readonly uid: number | undefined;
  /** Undefined where the request could not be parsed, like the target. */
  readonly method: string | undefined;
  readonly target: string | undefined;
  readonly rawHeaders: RawHeaders;
}

/** What an observer may do to the run as a whole. */
export interface RunControl {
  /** Wipes the key; nothing that is not on its way yet is sent. */
  endKey(): void;
  /** Stops the daemon as a signal does. */
  stop(): void;
  /** Tells the daemon's user. */
  say(message: string): void;
}

/**
 * Watches requests and may deny them. This is the seam to `extras/`: the core knows these two interfaces and the
 * observer below that does nothing.
 */
export interface Observer {
  /** What the daemon says at start about what it does to requests. */
  readonly notices: readonly string[];
  /** Fields that requests carry upstream in place of the client's. */
  readonly upstreamFields: readonly Field[];
  /**
   * The key is there. To be called once, before the first request.
   *
   * @throws {Failure} when it may not be used
   */
  start(run: RunControl): void;
  /** Begins to watch a request whose head is complete, or that could not be parsed. */
  begin(head: RequestHead): RequestObserver;
  /** The daemon is about to cut what is still running. */
  stop(): void;
  /** The run is over. To be called last. */
  close(): void;
}

/** Watches one request. */
export interface RequestObserver {
  /** A field that every answer to this request carries; empty for none. */
  readonly answerFields: RawHeaders;
  /** Judges what the head tells, before the client is told to go on. */
  judgeHead(rawHeaders: RawHeaders): Denial | undefined;
  /**
   * The request is refused. To be called before the answer is sent.
   *
   * @param rule an error code of the gate's, or the denial's rule
   */
  refuse(status: number, rule: string): void;
  /** The daemon answers by itself. To be called before the answer is sent. */
  answer(status: number): void;
  /** Puts the observer between an exchange and the upstream: it may hold, deny, count and read what passes. */
  through(upstream: Upstream, req: IncomingMessage): Upstream;
}

const unobservedRequest: RequestObserver = Object.freeze({
  answerFields: [],
  judgeHead: () => undefined,
  refuse: () => {},
  answer: () => {},
  through: (upstream: Upstream) => upstream,
});

/** Watches nothing. */
export const noObserver: Observer = Object.freeze({
  notices: [],
  upstreamFields: [],
  start: () => {},
  begin: () => unobservedRequest,
  stop: () => {},
  close: () => {},
});
