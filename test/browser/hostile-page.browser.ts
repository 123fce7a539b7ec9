import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { startDaemon } from '../support/daemon.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';
import { Once, within } from '../support/wait.ts';

/** A name that the hostile site's DNS has rebound to this machine. */
const rebound = 'rebound.example';
const hostile = 'hostile.example';

const page = readFileSync(new URL('hostile-page.html', import.meta.url));

interface Done {
  /** URLs whose answers the page could read. */
  readonly readable: readonly string[];
}

interface Site {
  readonly port: number;
  /** A page that has done all it could. */
  readonly done: Promise<Done>;
}

/** The hostile site: serves the page and hears from it. */
async function startSite(): Promise<Site> {
  const done = new Once<Done>();
  const port = await serve((req, res) => {
    if (req.method === 'POST') {
      let text = '';
      req.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      }).on('end', () => {
        done.resolve(JSON.parse(text) as Done);
        res.end();
      });
    } else {
      res.setHeader('content-type', 'text/html');
      res.end(page);
    }
  });
  return { port, done: done.promise };
}

async function serve(handle: http.RequestListener): Promise<number> {
  const server = http.createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Opens a URL in a browser that knows nothing, and has names for the hostile site. */
function openBrowser(url: string): void {
  const folder = scratchFolder();
  const browser = spawn('chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run', '--no-default-browser-check',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-extensions', '--disable-default-apps',
    `--host-resolver-rules=MAP ${rebound} 127.0.0.1, MAP ${hostile} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost`,
    `--user-data-dir=${folder}`, url,
  ], { stdio: 'ignore', detached: true, env: { PATH: process.env['PATH'], HOME: folder, XDG_CONFIG_HOME: folder, XDG_CACHE_HOME: folder } });
  const ended = new Promise((resolve) => browser.once('exit', resolve));
  cleanUp(async () => {
    if (browser.pid !== undefined && browser.exitCode === null && browser.signalCode === null) process.kill(-browser.pid, 'SIGKILL');
    await ended;
  });
}

const addressesOf = (port: number): string[] => [`http://127.0.0.1:${port}`, `http://localhost:${port}`, `http://${rebound}:${port}`];

/** The hostile page as a browser opens it, from some name of the hostile site, aimed at `port`. */
async function attack(name: string, port: number, tagged: boolean): Promise<Done> {
  const site = await startSite();
  const query = new URLSearchParams(addressesOf(port).map((base): [string, string] => ['base', base]));
  if (tagged) query.set('tagged', '');
  openBrowser(`http://${name}:${site.port}/?${query.toString()}`);
  return within(site.done, `the end of the hostile page of ${name}`, 30_000);
}

// 127.0.0.1 is another port of the daemon's own host: the same site, as browsers see it. The others are cross-site.
const names = ['127.0.0.1', 'localhost', hostile, rebound];

test.for(names)('a page of %s in a real browser spends nothing and stops nothing', async (name, context) => {
  needs(context, 'command chromium');
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
  const { readable } = await attack(name, daemon.port, false);
  expect(daemon.exit).toBe(undefined);
  expect(upstream.receivedBytes).toBe(0);
  expect(readable).toEqual([]);
  // The page did reach it.
  expect(daemon.stderr).toContain('refused (browser_not_allowed)');
  expect(daemon.stderr).toContain('refused (host_not_allowed)');
  expect((await ask(daemon.port)).status).toBe(200);
});

/** What must have arrived from the page at a server that refuses nothing, or the test above shows nothing. */
const arriving = [
  'fetch-no-cors-get', 'fetch-no-cors-post', 'fetch-no-cors-post-plain', 'fetch-no-cors-keepalive', 'fetch-no-cors-no-referrer', 'fetch-cors-get', 'fetch-cors-post-simple', 'fetch-cors-post-json',
  'fetch-cors-post-authorization', 'fetch-cors-post-custom', 'xhr-get', 'xhr-post', 'xhr-post-json', 'xhr-post-custom', 'beacon', 'beacon-blob', 'img', 'img-no-referrer', 'img-crossorigin', 'input-image', 'script',
  'script-module', 'stylesheet', 'prefetch', 'preload-fetch', 'preload-image', 'modulepreload', 'import', 'style-import', 'background', 'font', 'iframe', 'object', 'embed', 'video', 'audio', 'form-post',
  'form-multipart', 'form-plain', 'meta-refresh', 'sandboxed-fetch', 'sandboxed-form', 'sandboxed-img', 'event-source', 'websocket', 'worker', 'ping',
];

test('control: at a server that refuses nothing all of it arrives', async (context) => {
  needs(context, 'command chromium');
  const arrived = new Map<string, Set<string>>();
  const port = await serve((req, res) => {
    const [path = '', name = ''] = (req.url ?? '').split('?');
    const key = `${req.headers.host} ${path}`;
    arrived.set(key, (arrived.get(key) ?? new Set()).add(name));
    res.setHeader('access-control-allow-origin', req.headers.origin ?? '*');
    res.setHeader('access-control-allow-credentials', 'true');
    res.setHeader('access-control-allow-headers', 'content-type, authorization, x-custom');
    res.end('{}');
  });
  const { readable } = await attack(hostile, port, true);
  for (const base of addressesOf(port)) {
    for (const path of ['/v1/responses', '/shutdown']) {
      const names = arrived.get(`${new URL(base).host} ${path}`) ?? new Set();
      expect(arriving.filter((name) => !names.has(name)), `${base}${path}`).toEqual([]);
    }
  }
  expect(readable.length).toBeGreaterThan(0);
});
