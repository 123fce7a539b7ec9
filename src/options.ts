import { X509Certificate } from 'node:crypto';
import { type Stats, existsSync, fstatSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { type Field, canonicalName, isReserved } from './proxy/headers.ts';
import type { ListenOn } from './proxy/listener.ts';
import { parseProxy, parseUpstreamUrl } from './proxy/upstream-url.ts';
import { type Flag, type Values, helpText, readArguments } from './run/command-line.ts';
import { Failure, reason, usageFailure } from './run/failure.ts';
import { isSocketActivated } from './run/inherited-socket.ts';
import { version } from './run/installation.ts';

/** What the user asked for: parsed, with defaults, valid. A new flag is a row of `flags` and a line of `validate`. */
export type Options = Readonly<ReturnType<typeof validate>>;

/** Longest delay that node's timers take: 2^31 - 1 ms. */
const maxSeconds = 2_147_483;

/** Longest endpoint, in bytes. It stands before the key in the request head. */
const maxEndpointLength = 1024;

/** Longest name of a header, and longest scheme, in bytes. Both stand before the key as well. */
const maxTokenLength = 256;

/** Answered by the daemon itself, and so cannot be an endpoint. */
const ownRoutes: ReadonlySet<string> = new Set(['/shutdown', '/health']);

/** Every flag. Help and man page are drawn from it. */
export const flags = {
  port: { takes: 'port', group: 'Listening:', describe: 'port on 127.0.0.1 (default: one that is free)' },
  'server-info': { takes: 'file', group: 'Listening:', describe: 'write {"port":N,"pid":N} to this file once listening' },
  'http-health': { group: 'Listening:', describe: 'GET /health tells whether the daemon serves' },
  'websocket-fallback': { group: 'Listening:', describe: 'answer WebSocket handshakes with 426, for clients that try them first' },

  endpoint: { takes: 'path', default: '/v1/responses', group: 'Upstream:', describe: 'the one request target that is served' },
  'upstream-url': { takes: 'url', group: 'Upstream:', describe: 'where requests go (default: https://api.openai.com/v1/responses, or as --endpoint says)' },
  'upstream-header': { takes: 'header', repeats: true, group: 'Upstream:', describe: "'Name: value' to send in place of the client's; can be repeated" },
  'auth-header': { takes: 'header', default: 'Authorization: Bearer', group: 'Upstream:', describe: "'Name' of the header that carries the key, or 'Name: Scheme' for a word before it" },
  'upstream-ca': { takes: 'file', group: 'Upstream:', describe: 'trust exactly the certificates in this PEM file' },
  'upstream-proxy': { takes: 'url', group: 'Upstream:', describe: 'tunnel through this proxy, or none (default: HTTPS_PROXY)' },
  'connect-timeout': { takes: 'seconds', default: '10', group: 'Upstream:', describe: 'time to connect; 0 for no limit' },
  'response-timeout': { takes: 'seconds', default: '0', group: 'Upstream:', describe: 'time until the answer begins; 0 for no limit' },
  'idle-timeout': { takes: 'seconds', default: '0', group: 'Upstream:', describe: 'time between bytes of the answer; 0 for no limit' },

  'allow-user': { takes: 'user', repeats: true, group: 'Who may ask:', describe: 'serve only this user; can be repeated' },
  'issue-token': { group: 'Who may ask:', describe: 'make a token that requests must carry, and put it into --server-info' },
  'client-token-file': { takes: 'file', group: 'Who may ask:', describe: 'requests must carry the token in this file' },

  'audit-log': { takes: 'file', group: 'Audit and policy:', describe: 'record each request in this file, one JSON line each; without a record, no use' },
  policy: { takes: 'file', group: 'Audit and policy:', describe: 'grant what this JSON file grants, and no more' },
  'expire-at': { takes: 'time', group: 'Audit and policy:', describe: 'wipe the key at this time (RFC 3339: 2026-01-31T18:00:00Z), and stop a minute later' },

  'http-shutdown': { group: 'Stopping:', describe: 'GET /shutdown stops the daemon' },
  'shutdown-timeout': { takes: 'seconds', default: '10', group: 'Stopping:', describe: 'time that running answers have to finish' },

  'renewable-key': { group: 'Custody:', describe: 'each further line on stdin replaces the key' },
  'run-as': { takes: 'user', group: 'Custody:', describe: 'give up root for this user, once started' },
  'unsafe-unlocked-memory': { group: 'Custody:', describe: 'run even where the key cannot be locked in memory' },
  'unsafe-no-sandbox': { group: 'Custody:', describe: 'run even where system calls cannot be forbidden' },

  check: { group: 'Others:', describe: 'start up to the key, connect to the upstream and send nothing, say what would be done, and exit' },
  help: { short: 'h', group: 'Others:', describe: 'show this (also -h)' },
  version: { short: 'v', group: 'Others:', describe: 'show the version (also -v, -V)' },
} as const satisfies Readonly<Record<string, Flag>>;

type FlagName = keyof typeof flags;

const withKey = 'printenv OPENAI_API_KEY | env -u OPENAI_API_KEY responses-api-proxy';

const usage = 'Keeps one API key, to be used for POST /v1/responses only.\n\n$0 [flags], with the key on stdin\n$0 audit --help';

/** Each runs as it stands, for any user. */
export const examples = [
  `${withKey} --port 8080 --allow-user "$(id -un)"`,
  `${withKey} --upstream-url https://gateway.example/v1/responses`,
  `${withKey} --issue-token --server-info proxy.json --http-shutdown --shutdown-timeout 60`,
  `${withKey} --policy codex.json --audit-log audit.jsonl`,
  'responses-api-proxy audit summary audit.jsonl',
];

const exitStatus = 'Exit codes: 0 stopped as asked, 1 could not start or failed, 2 wrong arguments, 3 the key could not be locked or a hardening step failed.';

/**
 * Reads the command line.
 *
 * @param environment for the proxy and its exemptions, LISTEN_FDS and LISTEN_PID
 * @returns the options of a run, or a text to be printed in its place
 * @throws {Failure} with exit code 2 for wrong arguments; the message never repeats a value, except for the name of a file
 */
export async function parseCommandLine(argv: readonly string[], environment: NodeJS.ProcessEnv): Promise<Options | string> {
  const { values, words } = readArguments(argv.map((word) => (word === '-V' ? '-v' : word)), flags);
  if (values.help || words[0] === 'help') return helpText(usage, flags, examples, exitStatus);
  if (values.version || words[0] === 'version') return version;
  if (words.length > 0) throw usageFailure('unexpected argument', 'flags begin with --, switches take no value, and the key comes on stdin');
  return Object.freeze(validate(values, environment));
}

/** Nothing downstream checks again what is checked here. */
function validate(values: Values<typeof flags>, environment: NodeJS.ProcessEnv) {
  const endpoint = parseEndpoint(values.endpoint);
  const { authHeader, authScheme } = parseAuthHeader(values['auth-header']);
  const upstreamHeaders = parseUpstreamHeaders(values['upstream-header'], authHeader);
  const notices: string[] = [];
  const upstream = parseUpstreamUrl(values['upstream-url'] ?? `https://api.openai.com${endpoint}`, endpoint, notices);
  const { port, policy, 'server-info': serverInfo, 'audit-log': auditLog, 'issue-token': issuesToken, 'client-token-file': tokenFile } = values;

  const isActivated = isSocketActivated(environment, process.pid);
  if (isActivated && port !== undefined) throw usageFailure('--port cannot go with an inherited socket (LISTEN_FDS)', 'the port is that of the socket; drop one of the two');
  if (isActivated && values['http-shutdown']) {
    throw usageFailure('--http-shutdown cannot go with an inherited socket (LISTEN_FDS)', 'the next connection would start the daemon again; stop it by its service manager');
  }
  if (issuesToken && tokenFile !== undefined) throw usageFailure('--issue-token and --client-token-file exclude each other');
  if (issuesToken && serverInfo === undefined) throw usageFailure('--issue-token needs --server-info, where the token goes');
  checkFiles(values);
  const setsEncoding = [authHeader, ...upstreamHeaders.map(({ name }) => name)].some((name) => canonicalName(name) === 'accept-encoding');
  if (setsEncoding && (auditLog ?? policy) !== undefined) {
    throw usageFailure('Accept-Encoding cannot be set together with --audit-log or --policy: the daemon sets it, to read the answer');
  }
  const listenOn: ListenOn = isActivated ? 'inherited' : parsePort(port);
  return {
    listenOn,
    endpoint,
    httpShutdown: values['http-shutdown'],
    httpHealth: values['http-health'],
    websocketFallback: values['websocket-fallback'],
    shutdownTimeoutMs: parseSeconds('shutdown-timeout', values),
    upstream: {
      ...upstream,
      proxy: parseProxy(values['upstream-proxy'], upstream.origin, environment, notices),
      ca: values['upstream-ca'] === undefined ? undefined : readCertificates(values['upstream-ca']),
      connectTimeoutMs: parseSeconds('connect-timeout', values),
      responseTimeoutMs: parseSeconds('response-timeout', values),
      idleTimeoutMs: parseSeconds('idle-timeout', values),
    },
    /** What to tell the user of the upstream, a line each. */
    notices,
    upstreamHeaders,
    /** The header that carries the key, and the word before it; undefined for none. */
    authHeader,
    authScheme,
    serverInfo,
    auditLog,
    policyFile: policy,
    /** As given, like users. What they are is for those to say who need them. */
    expireAt: values['expire-at'],
    runAs: values['run-as'],
    allowUsers: values['allow-user'],
    issuesToken,
    tokenFile,
    isKeyRenewable: values['renewable-key'],
    unsafeUnlockedMemory: values['unsafe-unlocked-memory'],
    unsafeNoSandbox: values['unsafe-no-sandbox'],
    check: values.check,
  };
}

/** Each file that is written must be no other file, and stdin is for the key. */
function checkFiles(values: Values<typeof flags>): void {
  const written: FlagName[] = ['audit-log', 'server-info'];
  const seen = new Map([[identityOf(fstatSync(0)), 'stdin']]);
  for (const flag of ['client-token-file', 'policy', 'upstream-ca', ...written] as const) {
    const file = values[flag];
    if (typeof file !== 'string') continue;
    const location = locationOf(flag, file);
    const other = seen.get(location);
    if (other === 'stdin') throw usageFailure(`--${flag} cannot be stdin, which is for the key`);
    if (other !== undefined && written.includes(flag)) throw usageFailure(`--${other} and --${flag} name the same file`, 'each needs a file of its own');
    seen.set(location, flag);
  }
}

/** A file by whatever name it has: stdin has many, and the file with the key is one of them. */
function identityOf({ dev, ino }: Stats): string {
  return `${dev}:${ino}`;
}

/** A file; where there is none yet, its folder and name. */
function locationOf(flag: FlagName, file: string): string {
  try {
    const path = resolve(file);
    if (existsSync(path)) return identityOf(statSync(path));
    const folder = dirname(path);
    return `${existsSync(folder) ? identityOf(statSync(folder)) : folder}/${basename(path)}`;
  } catch {
    throw new Failure(`--${flag} ${file} is relative to the current folder, which is gone`, { hint: 'start it in another folder, or give the whole path' });
  }
}

/** @returns 0 for one of the system's choice */
function parsePort(text: string | undefined): number {
  if (text === undefined) return 0;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw usageFailure('--port takes a whole number from 1 to 65535');
}

/** Seconds, perhaps with a fraction, in milliseconds. */
function parseSeconds<Name extends FlagName>(name: Name, values: { readonly [_ in Name]: string }): number {
  const text = values[name];
  if (/^\d+(\.\d{1,3})?$/.test(text) && Number(text) <= maxSeconds) return Math.round(Number(text) * 1000);
  throw usageFailure(`--${name} takes seconds from 0 to ${maxSeconds}`);
}

function parseEndpoint(given: string): string {
  if (/^\/[\x21-\x7e]*$/.test(given) && !/[?#\\]/.test(given) && given.length <= maxEndpointLength && !ownRoutes.has(given)) return given;
  throw usageFailure('--endpoint takes a path such as /v1/chat/completions, without a query');
}

/** RFC 9110 section 5.6.2: a token. */
function isToken(text: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(text) && text.length <= maxTokenLength;
}

function parseFieldName(flag: FlagName, name: string): string {
  if (!isToken(name)) throw usageFailure(`--${flag} takes the name of a header`);
  if (isReserved(name)) throw usageFailure(`--${flag} cannot be ${name}: it is for the daemon to set`);
  return name;
}

function parseUpstreamHeaders(given: readonly string[], authHeader: string): Field[] {
  const names = new Set<string>();
  return given.map((text) => {
    const [, name, value = ''] = /^([^:]*):[ \t]*(.*?)[ \t]*$/s.exec(text) ?? [];
    if (name === undefined) throw usageFailure("--upstream-header takes 'Name: value', with a colon");
    parseFieldName('upstream-header', name);
    const canonical = canonicalName(name);
    if ([canonicalName(authHeader), 'authorization'].includes(canonical)) throw usageFailure('--upstream-header cannot be the header that carries the key');
    if (!/^[\t\x20-\x7e]*$/.test(value)) throw usageFailure(`--upstream-header ${name} has characters that no header has`);
    if (names.has(canonical)) throw usageFailure(`--upstream-header ${name} was given twice`);
    names.add(canonical);
    return { name, value };
  });
}

function parseAuthHeader(given: string) {
  const [, name = '', authScheme] = /^([^:]*)(?::[ \t]*(.*))?$/s.exec(given) ?? [];
  if (authScheme !== undefined && !isToken(authScheme)) throw usageFailure("--auth-header takes 'Name', or 'Name: Scheme' with one word");
  return { authHeader: parseFieldName('auth-header', name), authScheme };
}

/** The certificates in a file, as PEM. Each is parsed here, because OpenSSL skips what it cannot read. */
function readCertificates(file: string): string {
  let pem: string;
  try {
    pem = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Failure(`cannot read --upstream-ca ${file}: ${reason(error)}`, { hint: 'it is read once, at start, by the user who starts the daemon' });
  }
  const blocks = pem.match(/-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[^-]*-----END \1-----/g) ?? [];
  if (blocks.length > 0 && blocks.every(isCertificate)) return blocks.join('\n');
  throw new Failure(`--upstream-ca ${file} holds no readable certificate`, { hint: 'it takes a PEM file of certificates' });
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem) !== undefined;
  } catch {
    return false;
  }
}
