import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { familyOf } from '../../scripts/bench/process.ts';
import { freePort, startService, whenListening } from '../../scripts/bench/service.ts';
import { caFile, identity } from './certificates.ts';
import { cleanUp } from './cleanup.ts';
import { scratchFolder } from './scratch.ts';

/** A real server at the other end of the daemon: TLS, and a backend of ours behind it. */
export interface RealPeer {
  readonly port: number;
  /** --upstream-url and --upstream-ca for it. */
  readonly args: readonly string[];
  readonly pid: number;
}

export interface RealPeerOptions {
  /** How long an idle connection is kept after an answer, in ms. Default: a minute. */
  readonly keepAliveMs?: number;
  /** How long a new connection may be silent, in ms. Default: a minute. */
  readonly firstRequestMs?: number;
}

export type StartPeer = (backendPort: number, options?: RealPeerOptions) => Promise<RealPeer>;

const minuteMs = 60_000;

/** By the command that has to be there. */
export const realPeers: Readonly<Record<'nginx' | 'haproxy', StartPeer>> = {
  async nginx(backendPort, { keepAliveMs = minuteMs, firstRequestMs = minuteMs } = {}) {
    const folder = scratchFolder();
    const port = await freePort();
    const { cert, key } = identity('good');
    writeFileSync(join(folder, 'nginx.conf'), `
      daemon off;
      ${process.getuid?.() === 0 ? 'user root;' : ''}
      worker_processes 2;
      pid ${folder}/nginx.pid;
      error_log stderr error;
      events { worker_connections 1024; }
      http {
        access_log off;
        ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join('\n')}
        keepalive_timeout ${keepAliveMs}ms;
        keepalive_requests 1000000;
        client_header_timeout ${firstRequestMs}ms;
        upstream backend { server 127.0.0.1:${backendPort}; keepalive 64; keepalive_requests 1000000; }
        server {
          listen 127.0.0.1:${port} ssl backlog=1024;
          ssl_certificate ${cert};
          ssl_certificate_key ${key};
          location / {
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_next_upstream off;
          }
        }
      }`);
    return start('nginx', port, ['-p', folder, '-e', 'stderr', '-c', join(folder, 'nginx.conf')]);
  },

  async haproxy(backendPort, { keepAliveMs = minuteMs, firstRequestMs = minuteMs } = {}) {
    const folder = scratchFolder();
    const port = await freePort();
    const { cert, key } = identity('good');
    const both = join(folder, 'both.pem');
    writeFileSync(both, `${readFileSync(cert, 'utf8')}${readFileSync(key, 'utf8')}`, { mode: 0o600 });
    writeFileSync(join(folder, 'haproxy.conf'), `
global
  maxconn 1024
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  timeout http-request ${firstRequestMs}
  timeout http-keep-alive ${keepAliveMs}
frontend secure
  bind 127.0.0.1:${port} ssl crt ${both}
  default_backend plain
backend plain
  server plain 127.0.0.1:${backendPort}
`);
    return start('haproxy', port, ['-db', '-q', '-f', join(folder, 'haproxy.conf')]);
  },
};

async function start(command: 'nginx' | 'haproxy', port: number, args: readonly string[]): Promise<RealPeer> {
  const service = await startService({ name: command, file: command, args, env: { PATH: process.env['PATH'] }, ready: whenListening(port) });
  cleanUp(() => service.stop());
  return {
    port,
    args: ['--upstream-url', `https://localhost:${port}/v1/responses`, '--upstream-ca', caFile()],
    pid: service.pid,
  };
}

/** Has an nginx read its configuration again. Resolves once the workers that served so far close their idle connections. */
export async function reloadNginx({ pid }: RealPeer): Promise<void> {
  const workers = familyOf(pid).slice(1);
  process.kill(pid, 'SIGHUP');
  await expect.poll(() => workers.filter(isServing), { interval: 5 }).toEqual([]);
}

/** Not an nginx worker that has begun to end: that says so in its title. */
function isServing(worker: number): boolean {
  try {
    return !readFileSync(`/proc/${worker}/cmdline`, 'latin1').includes('is shutting down');
  } catch {
    return false;
  }
}

/** What stands behind a real peer. */
export interface Backend {
  readonly port: number;
  /** The X-Id of each request that came, in order. */
  readonly ids: readonly string[];
}

/** @param answer called once a request is there as a whole */
export async function startBackend(answer: (res: http.ServerResponse) => void): Promise<Backend> {
  const ids: string[] = [];
  const server = http.createServer({ keepAliveTimeout: minuteMs }, (req, res) => {
    ids.push(String(req.headers['x-id']));
    req.resume().once('end', () => answer(res));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, ids };
}

/** Posts some bytes with an X-Id, and resolves with the status; undefined where there was no whole answer. */
export function post(port: number, id: string, agent: http.Agent): Promise<number | undefined> {
  return new Promise((resolve) => {
    const req = http.request({ host: '127.0.0.1', port, agent, method: 'POST', path: '/v1/responses', headers: { 'x-id': id, 'content-length': 2 } }, (res) => {
      res.resume().once('close', () => resolve(res.complete ? res.statusCode : undefined));
    });
    req.once('error', () => resolve(undefined)).end('{}');
  });
}
