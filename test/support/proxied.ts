import { startDaemon, type Daemon, type DaemonOptions } from './daemon.ts';
import { responses, type Endpoint } from './endpoints.ts';
import { connect, exchange, rawRequest, type RawClient, type RawRequest, type RawResponse } from './raw-client.ts';
import { startUpstream, type Answer, type Upstream, type UpstreamOptions, type UpstreamRequest } from './upstream.ts';

/** A daemon and its upstream, which does not respond by itself unless it is given an answer. */
export class Proxied {
  readonly upstream: Upstream;
  readonly daemon: Daemon;
  readonly endpoint: Endpoint;
  #requestsTaken = 0;

  constructor(upstream: Upstream, daemon: Daemon, endpoint: Endpoint) {
    this.upstream = upstream;
    this.daemon = daemon;
    this.endpoint = endpoint;
  }

  /** The bytes of a request to the endpoint: by default of one that is admitted. */
  rawRequest(request: RawRequest = {}): Buffer {
    const { path, request: body } = this.endpoint;
    return rawRequest(this.daemon.port, { target: path, ...((request.method ?? 'POST') === 'POST' ? { body } : {}), ...request });
  }

  /** The head of a request to the endpoint, see `uploadHead`. */
  uploadHead(framing: string): string {
    return uploadHead(this.daemon.port, framing, this.endpoint.path);
  }

  /** One connection, one request to the endpoint, its response. */
  ask(request: RawRequest = {}): Promise<RawResponse> {
    return exchange(this.daemon.port, this.rawRequest(request), { bodiless: request.method === 'HEAD' });
  }

  /** For beforeEach, if tests share the two: forgets what earlier tests left, so that one failure does not cause others. */
  startOver(answer: Answer = () => {}): void {
    this.upstream.answerWith(answer);
    this.#requestsTaken = this.upstream.requests.length;
  }

  /** The oldest request since `startOver` not returned yet, as soon as its head is here. */
  async nextRequest(): Promise<UpstreamRequest> {
    const index = this.#requestsTaken++;
    await this.upstream.until(() => this.upstream.requests.length > index, 'the next request');
    const request = this.upstream.requests[index];
    if (request === undefined) throw new Error('the request is gone');
    return request;
  }
}

export interface ProxiedOptions {
  /** Default: /v1/responses. */
  readonly endpoint?: Endpoint;
  readonly upstream?: UpstreamOptions;
  /** The daemon's, besides those that lead to the upstream and name the endpoint. */
  readonly args?: readonly string[];
  readonly daemon?: DaemonOptions;
}

/** Both, started. */
export async function startBoth(options: ProxiedOptions = {}): Promise<Proxied> {
  const endpoint = options.endpoint ?? responses;
  const upstream = await startUpstream({ path: endpoint.path, ...options.upstream });
  return new Proxied(upstream, await startDaemon({ ...options.daemon, args: [...upstream.args, ...endpoint.args(), ...(options.args ?? [])] }), endpoint);
}

/** An exchange whose whole request the upstream has. */
export interface Underway {
  readonly client: RawClient;
  readonly request: UpstreamRequest;
}

/** A client whose whole request has arrived at the upstream, with no response yet. */
export async function asking(both: Proxied, request: RawRequest = {}): Promise<Underway> {
  const client = await connect(both.daemon.port);
  await client.send(both.rawRequest(request));
  const arrived = await both.nextRequest();
  await arrived.complete();
  return { client, request: arrived };
}

/** The head of an admitted request whose body is to follow: `framing` is its Content-Length or Transfer-Encoding line. */
export function uploadHead(port: number, framing: string, target = responses.path): string {
  return `POST ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${framing}\r\n\r\n`;
}
