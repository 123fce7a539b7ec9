import { startDaemon, type Daemon, type DaemonOptions } from './daemon.ts';
import { connect, rawRequest, type RawClient, type RawRequest } from './raw-client.ts';
import { startUpstream, type Answer, type Upstream, type UpstreamOptions, type UpstreamRequest } from './upstream.ts';

/** A daemon and its upstream, which says nothing by itself unless it is told to. */
export class Proxied {
  readonly upstream: Upstream;
  readonly daemon: Daemon;
  #requestsTaken = 0;

  constructor(upstream: Upstream, daemon: Daemon) {
    this.upstream = upstream;
    this.daemon = daemon;
  }

  /** For beforeEach, where tests share the two: forgets what earlier tests left, so that one failure stays one failure. */
  startOver(answer: Answer = () => {}): void {
    this.upstream.answerWith(answer);
    this.#requestsTaken = this.upstream.requests.length;
  }

  /** The oldest request since `startOver` that was not handed out yet, as soon as its head is here. */
  async nextRequest(): Promise<UpstreamRequest> {
    const index = this.#requestsTaken++;
    await this.upstream.until(() => this.upstream.requests.length > index, 'the next request');
    const request = this.upstream.requests[index];
    if (request === undefined) throw new Error('the request is gone');
    return request;
  }
}

/** Both, started. `args` are the daemon's besides those that lead to the upstream. */
export async function startBoth(options: { readonly upstream?: UpstreamOptions; readonly args?: readonly string[]; readonly daemon?: DaemonOptions } = {}): Promise<Proxied> {
  const upstream = await startUpstream(options.upstream);
  return new Proxied(upstream, await startDaemon({ ...options.daemon, args: [...upstream.args, ...(options.args ?? [])] }));
}

/** One exchange, up to the moment when the upstream has the whole request. */
export interface Underway {
  readonly client: RawClient;
  readonly request: UpstreamRequest;
}

/** A client whose whole request has arrived at the upstream, and nothing of an answer. */
export async function asking(both: Proxied, request: RawRequest = {}): Promise<Underway> {
  const client = await connect(both.daemon.port);
  await client.send(rawRequest(both.daemon.port, request));
  const arrived = await both.nextRequest();
  await arrived.complete();
  return { client, request: arrived };
}

/** The head of an admitted request whose body is to follow: `framing` is its Content-Length or Transfer-Encoding line. */
export function uploadHead(port: number, framing: string): string {
  return `POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${framing}\r\n\r\n`;
}
