import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { otherCaFile } from '../support/certificates.ts';
import { builtMain } from '../support/daemon-paths.ts';
import { randomKey, startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { nativeTool } from '../support/native-tools.ts';
import { environmentOf, listeningPortsOf } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';
import { defaultWaitMs } from '../support/wait.ts';

/** All that may be in the daemon's environment. */
const allowed = new Set(['RESPONSES_API_PROXY_IGNORED_SIGNALS', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy', 'NO_PROXY', 'no_proxy']);

const secret = randomKey();

type Environment = Record<string, string>;

/** Makes `environments` with files in `folder`; whatever else turns up there was written by what should not have run. */
const environments: Record<string, (folder: string) => Environment | Promise<Environment>> = {
  'NODE_OPTIONS=--require': (folder) => ({ NODE_OPTIONS: `--require ${script(folder)}` }),
  'NODE_OPTIONS=--import': (folder) => ({ NODE_OPTIONS: `--import ${script(folder)}` }),
  'NODE_OPTIONS=--inspect': () => ({ NODE_OPTIONS: '--inspect=127.0.0.1:0' }),
  'NODE_OPTIONS=--tls-keylog': (folder) => ({ NODE_OPTIONS: `--tls-keylog=${folder}/keylog` }),
  'NODE_OPTIONS=--trace-tls': () => ({ NODE_OPTIONS: '--trace-tls' }),
  'NODE_OPTIONS=--heapsnapshot-signal': () => ({ NODE_OPTIONS: '--heapsnapshot-signal=SIGUSR1' }),
  'NODE_OPTIONS=--heapsnapshot-near-heap-limit': () => ({ NODE_OPTIONS: '--heapsnapshot-near-heap-limit=3' }),
  'NODE_OPTIONS=--heap-prof': (folder) => ({ NODE_OPTIONS: `--heap-prof --heap-prof-dir=${folder}` }),
  'NODE_OPTIONS=--report-on-signal': (folder) => ({ NODE_OPTIONS: `--report-on-signal --report-signal=SIGUSR1 --report-dir=${folder}` }),
  'NODE_OPTIONS=--report-on-fatalerror': (folder) => ({ NODE_OPTIONS: `--report-on-fatalerror --report-uncaught-exception --report-dir=${folder}` }),
  'NODE_OPTIONS=--openssl-config': (folder) => ({ NODE_OPTIONS: `--openssl-config=${folder}/openssl.cnf` }),
  'NODE_OPTIONS, unknown': () => ({ NODE_OPTIONS: '--no-such-option' }),
  'NODE_DEBUG': () => ({ NODE_DEBUG: 'http,net,tls,stream,undici' }),
  'NODE_DEBUG_NATIVE': () => ({ NODE_DEBUG_NATIVE: 'TLS,HTTP_CLIENT' }),
  'NODE_V8_COVERAGE': (folder) => ({ NODE_V8_COVERAGE: join(folder, 'coverage') }),
  'NODE_COMPILE_CACHE': (folder) => ({ NODE_COMPILE_CACHE: join(folder, 'cache') }),
  'NODE_PATH': (folder) => ({ NODE_PATH: folder }),
  'NODE_REDIRECT_WARNINGS': (folder) => ({ NODE_REDIRECT_WARNINGS: join(folder, 'warnings') }),
  'NODE_REPL_EXTERNAL_MODULE': (folder) => ({ NODE_REPL_EXTERNAL_MODULE: script(folder) }),
  'SSLKEYLOGFILE': (folder) => ({ SSLKEYLOGFILE: join(folder, 'keylog') }),
  'SSL_CERT_FILE': (folder) => ({ SSL_CERT_FILE: join(folder, 'none.pem') }),
  'SSL_CERT_DIR': (folder) => ({ SSL_CERT_DIR: folder }),
  'OPENSSL_CONF': (folder) => ({ OPENSSL_CONF: opensslConfiguration(folder) }),
  'OPENSSL_MODULES': (folder) => ({ OPENSSL_MODULES: folder }),
  'OPENSSL_ENGINES': (folder) => ({ OPENSSL_ENGINES: folder }),
  'LD_PRELOAD': async (folder) => ({
    LD_PRELOAD: await nativeTool('preloaded', ['-std=c11', '-D_GNU_SOURCE', '-shared', '-fPIC']),
    PRELOADED: join(folder, 'preloaded'),
  }),
  'LD_LIBRARY_PATH': (folder) => ({ LD_LIBRARY_PATH: folder }),
  'MALLOC_TRACE': (folder) => ({ MALLOC_TRACE: join(folder, 'malloc') }),
  'OPENAI_API_KEY': () => ({ OPENAI_API_KEY: secret }),
  'BASH_ENV': (folder) => ({ BASH_ENV: shellScript(folder) }),
  'ENV': (folder) => ({ ENV: shellScript(folder) }),
  'a variable that no shell can name': () => ({ 'not-a-name': secret, 'BASH_FUNC_readlink%%': '() { :; }' }),
  'the launcher\'s own variables': () => ({ root: '/nowhere', node: '/nowhere', self: '/nowhere', rest: '/nowhere', ignored: 'x', IFS: '/', RESPONSES_API_PROXY_IGNORED_SIGNALS: 'SIGHUP SIGINT SIGTERM' }),
};

/** A file for node to load, which leaves a trace in its folder. */
function script(folder: string): string {
  const file = join(folder, 'loaded.cjs');
  writeFileSync(file, `require('node:fs').writeFileSync(${JSON.stringify(join(folder, 'was-loaded'))}, '')`);
  return file;
}

/** The same for a shell. Only what runs in the daemon's own process would be a hole, and that is node. */
function shellScript(folder: string): string {
  const file = join(folder, 'sourced.sh');
  writeFileSync(file, `: > '${join(folder, 'was-sourced')}'\n`);
  return file;
}

/** One under which no TLS connection would come about. */
function opensslConfiguration(folder: string): string {
  const file = join(folder, 'openssl.cnf');
  writeFileSync(file, 'nodejs_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMinProtocol = TLSv1\nCipherString = eNULL\n');
  return file;
}

/** All files in `folder` and below. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => statSync(join(folder, name)).isFile()).sort();
}

describe('it has no effect on the daemon:', () => {
  test.for(Object.entries(environments))('%s', async ([, make], context) => {
    needs(context, 'root', 'command cc');
    const folder = scratchFolder();
    const env = await make(folder);
    const before = filesIn(folder);
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: upstream.args, env: { HOME: folder, TMPDIR: folder, ...env }, cwd: folder });

    const names = environmentOf(daemon.pid).map((entry) => entry.slice(0, entry.indexOf('=')));
    expect(names.filter((name) => !allowed.has(name))).toEqual([]);
    const [response, request] = await Promise.all([ask(daemon.port), upstream.nextRequest()]);
    expect(response.status).toBe(200);
    expect(request.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
    daemon.signal('SIGUSR1'); // for what waits for a signal
    expect((await ask(daemon.port)).status).toBe(200);
    expect(listeningPortsOf(daemon.pid)).toEqual([daemon.port]);

    const exit = await daemon.stop();
    expect(exit).toMatchObject({ code: 0, stdout: '' });
    expect(exit.stderr.split('\n').filter((line) => line !== '' && !/^responses-api-proxy(:| listening)/.test(line))).toEqual([]);
    expectNoPieceOf(daemon.key, exit.stderr);
    expectNoPieceOf(secret, exit.stderr);
    expect(filesIn(folder)).toEqual(before);
    for (const file of before) expectNoPieceOf(daemon.key, readFileSync(join(folder, file), 'latin1'));
  });
});

describe('it makes no upstream trusted:', () => {
  const lenient: Record<string, () => Environment> = {
    'NODE_TLS_REJECT_UNAUTHORIZED': () => ({ NODE_TLS_REJECT_UNAUTHORIZED: '0' }),
    'NODE_OPTIONS=--use-openssl-ca': () => ({ NODE_OPTIONS: '--use-openssl-ca', SSL_CERT_FILE: ca() }),
    'NODE_EXTRA_CA_CERTS': () => ({ NODE_EXTRA_CA_CERTS: ca() }),
    'SSL_CERT_FILE': () => ({ SSL_CERT_FILE: ca() }),
    'NODE_USE_SYSTEM_CA': () => ({ NODE_USE_SYSTEM_CA: '1', SSL_CERT_FILE: ca() }),
  };
  // The CA that did sign the upstream's certificate; no flag names it.
  const ca = (): string => otherCaFile().replace(/other-ca\.pem$/, 'ca.pem');

  test.for(Object.entries(lenient))('%s', async ([, make]) => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url], env: make() });
    const response = await ask(daemon.port);
    expect(response.status).toBe(502);
    expect(envelopeOf(response).code).toBe('upstream_tls');
    expect(upstream.receivedBytes).toBe(0);
  });
});

test.for<readonly [string, readonly string[], Environment]>([
  ['nothing in its environment', [], {}],
  ['a key in it', [], { OPENAI_API_KEY: secret }],
  ['NODE_OPTIONS in it', [], { NODE_OPTIONS: '--no-warnings' }],
  ['a flag for node', ['--tls-keylog=/dev/null'], {}],
])('node started past the launcher, with %s, exits with 3', async ([, flags, env]) => {
  const { code, stderr } = await runNode([...flags, builtMain], env);
  expect(code, stderr).toBe(3);
  expect(stderr).toMatch(/^responses-api-proxy: its starter did not start it\nhint: .+\n$/m);
  expectNoPieceOf(secret, stderr);
});

/** How node ended when stdin was kept open: what does not end by itself is killed, and has no code. */
async function runNode(args: readonly string[], env: Environment): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, [...args], { env, stdio: ['pipe', 'ignore', 'pipe'], timeout: defaultWaitMs, killSignal: 'SIGKILL' });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stderr };
}
