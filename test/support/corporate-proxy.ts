import { readFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import tls from 'node:tls';
import type { Identity } from '../../scripts/certificates.ts';
import { cleanUp } from './cleanup.ts';
import { Changing } from './wait.ts';

export interface CorporateProxyOptions {
  /**
   * What it does with a CONNECT. 'hang': it says nothing; 'cut': it resets; 'refuse': it sends `answer`; 'cut tunnel': it opens one, and
   * resets once the first bytes came through. Default: tunnel.
   */
  readonly mode?: 'tunnel' | 'hang' | 'cut' | 'refuse' | 'cut tunnel';
  /** `user:password`; without, it asks for none. */
  readonly credentials?: string;
  /** Raw bytes (latin1) that answer a CONNECT. */
  readonly answer?: string;
  /** It speaks TLS, as localhost. */
  readonly identity?: Identity;
  /** Ports of 127.0.0.1 for authorities that do not exist. */
  readonly map?: Readonly<Record<string, number>>;
}

/** A corporate proxy: it understands CONNECT and nothing else. */
export class CorporateProxy {
  readonly port: number;
  /** http://127.0.0.1:PORT, or https://localhost:PORT */
  readonly url: string;
  /** Raw heads of the requests it got. */
  readonly requests: string[] = [];
  /** How many of the requests came on a TLS session that was resumed. */
  resumed = 0;
  /** How many connections to it have ended. */
  closed = 0;
  /** What clients sent through the tunnels that are closed, as latin1 (its last 64 KiB each). */
  through = '';
  readonly #options: CorporateProxyOptions;
  readonly #changing = new Changing();
  readonly #sockets = new Set<net.Socket>();

  constructor(server: net.Server, options: CorporateProxyOptions) {
    this.#options = options;
    this.port = (server.address() as AddressInfo).port;
    this.url = options.identity === undefined ? `http://127.0.0.1:${this.port}` : `https://localhost:${this.port}`;
    server.on('connection', (socket: net.Socket) => this.#sockets.add(socket));
    server.on(options.identity === undefined ? 'connection' : 'secureConnection', (client: net.Socket) => this.#accept(client));
    cleanUp(() => {
      server.close();
      for (const socket of this.#sockets) socket.destroy();
    });
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const { requests, resumed, closed } = this;
    await this.#changing.when(() => (condition() ? true : undefined), () => `${what}; the proxy had ${JSON.stringify({ requests, resumed, closed })}`);
  }

  #accept(client: net.Socket): void {
    let head = '';
    client.on('error', () => {});
    client.on('close', () => {
      this.closed++;
      this.#changing.changed();
    });
    const onData = (data: Buffer): void => {
      head += data.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      client.off('data', onData);
      client.pause();
      this.#serve(client, head.slice(0, end + 4), Buffer.from(head.slice(end + 4), 'latin1'));
    };
    client.on('data', onData);
  }

  #serve(client: net.Socket, head: string, rest: Buffer): void {
    const { mode, credentials, answer } = this.#options;
    this.requests.push(head);
    if (client instanceof tls.TLSSocket && client.isSessionReused()) this.resumed++;
    this.#changing.changed();
    const [, authority] = /^CONNECT (\S+) HTTP\/1\.1\r\n/.exec(head) ?? [];
    if (authority === undefined) return void client.end('HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n');
    if (mode === 'hang') return void client.on('end', () => client.end()).resume();
    if (mode === 'cut') return void client.resetAndDestroy();
    if (mode === 'refuse') return void client.end(Buffer.from(answer ?? '', 'latin1'));
    const [, given = ''] = /^proxy-authorization: Basic (\S+)\r$/im.exec(head) ?? [];
    if (credentials !== undefined && Buffer.from(given, 'base64').toString() !== credentials) {
      return void client.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="test"\r\nContent-Length: 0\r\n\r\n');
    }
    this.#tunnel(client, authority, rest);
  }

  #tunnel(client: net.Socket, authority: string, rest: Buffer): void {
    const { mode, answer, map = {} } = this.#options;
    const colon = authority.lastIndexOf(':');
    const mapped = map[authority];
    const target = mapped === undefined ? { host: authority.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(authority.slice(colon + 1)) } : { host: '127.0.0.1', port: mapped };
    const upstream = net.connect({ ...target, noDelay: true, allowHalfOpen: true }, () => {
      client.write(Buffer.from(answer ?? 'HTTP/1.1 200 Connection established\r\n\r\n', 'latin1'));
      upstream.write(rest);
      if (mode === 'cut tunnel') {
        client.once('data', () => {
          client.resetAndDestroy();
          upstream.destroy();
        });
        return void client.resume();
      }
      let seen = '';
      client.on('data', (data: Buffer) => {
        seen = (seen + data.toString('latin1')).slice(-64 * 1024);
      });
      client.on('close', () => {
        this.through += seen;
        this.#changing.changed();
      });
      client.on('end', () => upstream.destroySoon());
      client.pipe(upstream).pipe(client);
    });
    this.#sockets.add(upstream);
    upstream.on('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n'));
    upstream.on('close', () => client.destroySoon());
    client.on('close', () => upstream.destroy());
  }
}

export async function startCorporateProxy(options: CorporateProxyOptions = {}): Promise<CorporateProxy> {
  const { identity } = options;
  const how = { noDelay: true, allowHalfOpen: true };
  const server = identity === undefined ? net.createServer(how) : tls.createServer({ ...how, cert: readFileSync(identity.cert), key: readFileSync(identity.key) });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return new CorporateProxy(server, options);
}
