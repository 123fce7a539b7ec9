import { X509Certificate } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { maxBytesBeforeKey } from './key/locked-key.ts';
import { type Field, canonicalName, isReserved } from './proxy/headers.ts';
import type { UpstreamOptions } from './proxy/upstream.ts';
import { type Values, helpText, misuse as misuseOf, readArguments } from './run/command-line.ts';
import { Failure, reason } from './run/failure.ts';
import { foreign } from './run/log.ts';
import { readTrustedFile } from './run/trusted-file.ts';
import { environmentProxy, isLoopback } from './proxy/environment-proxy.ts';

/** What the user asked for: parsed, with defaults, valid. Nothing downstream checks it again. */
export interface Options {
  readonly port: number;
  readonly maxConnections: number;
  readonly endpoint: string;
  readonly httpShutdown: boolean;
  readonly httpHealth: boolean;
  readonly websocketFallback: boolean;
  readonly shutdownTimeoutMs: number;
  readonly upstream: UpstreamOptions;
  readonly upstreamHeaders: readonly Field[];
  /** The field that carries the key, and the word before it; undefined for none. */
  readonly authHeader: string;
  readonly authScheme: string | undefined;
  readonly serverInfo: string | undefined;
  readonly logFile: string | undefined;
  readonly auditLog: string | undefined;
  readonly isAuditRequired: boolean;
  readonly policyFile: string | undefined;
  /** A user's name or uid, as given; so are the two below. Only the system knows whether they exist. */
  readonly serverInfoOwner: string | undefined;
  readonly runAs: string | undefined;
  readonly allowUsers: readonly string[];
  readonly token: { readonly kind: 'none' } | { readonly kind: 'issued' } | { readonly kind: 'given'; readonly token: string };
  readonly unsafeUnlockedMemory: boolean;
}

/** What a command line asks for: a run, or a text and nothing else. */
export type Command = { kind: 'run'; options: Options } | { kind: 'print'; text: string };

/** Longest token of `--client-token-file`, in bytes. A head has room for no more than 64 KiB. */
const maxTokenBytes = 8 * 1024;

/** Longest delay that node's timers take: 2^31 - 1 ms. */
const maxSeconds = 2_147_483;

/** Longest endpoint, in bytes: it stands before the key in the request head. */
const maxEndpointLength = 1024;

/** Longest name of a header, and longest scheme, in bytes: both stand before the key as well. */
const maxFieldNameLength = 256;

/** What the daemon answers itself, and so cannot be an endpoint. */
const ownRoutes: ReadonlySet<string> = new Set(['/shutdown', '/health']);

const flags = {
  port: { string: true, group: 'Listening:', describe: 'port on 127.0.0.1 (default: one that is free)' },
  'max-connections': { string: true, default: '512', group: 'Listening:', describe: 'connections at once' },
  'server-info': { string: true, group: 'Listening:', describe: 'write {"port":N,"pid":N} to this file once listening' },
  'server-info-owner': { string: true, group: 'Listening:', describe: 'give that file to this user' },
  'http-health': { boolean: true, group: 'Listening:', describe: 'GET /health tells whether the daemon serves' },
  'websocket-fallback': { boolean: true, group: 'Listening:', describe: 'answer WebSocket handshakes with 426, for clients that try them first' },
  'log-file': { string: true, group: 'Listening:', describe: 'log to this file, and let go of the standard streams' },

  endpoint: { string: true, default: '/v1/responses', group: 'Upstream:', describe: 'the one request target that is served' },
  'upstream-url': { string: true, group: 'Upstream:', describe: 'where requests go (default: https://api.openai.com/v1/responses, or as --endpoint says)' },
  'upstream-header': { string: true, array: true, group: 'Upstream:', describe: "'Name: value' to send in place of the client's; can be repeated" },
  'auth-header': { string: true, default: 'Authorization', group: 'Upstream:', describe: 'the header that carries the key' },
  'auth-scheme': { string: true, default: 'Bearer', group: 'Upstream:', describe: 'the word before the key, or none' },
  'upstream-ca': { string: true, group: 'Upstream:', describe: 'trust exactly the CAs in this PEM file' },
  'upstream-proxy': { string: true, group: 'Upstream:', describe: 'tunnel through this proxy, or none (default: HTTPS_PROXY)' },
  'connect-timeout': { string: true, default: '10', group: 'Upstream:', describe: 'seconds to connect; 0 for no limit' },
  'response-timeout': { string: true, default: '0', group: 'Upstream:', describe: 'seconds until the answer begins; 0 for no limit' },
  'idle-timeout': { string: true, default: '0', group: 'Upstream:', describe: 'seconds between bytes of the answer; 0 for no limit' },

  'keep-warm': { string: true, default: '900', group: 'Upstream:', describe: 'seconds after a request for which a connection is kept ready; 0 for never' },

  'allow-user': { string: true, array: true, group: 'Who may ask:', describe: 'serve this user (name or uid) alone; can be repeated' },
  'issue-token': { boolean: true, group: 'Who may ask:', describe: 'make a token that requests must carry, and put it into --server-info' },
  'client-token-file': { string: true, group: 'Who may ask:', describe: 'requests must carry the token in this file' },

  'audit-log': { string: true, group: 'Accounts:', describe: 'record each request in this file, a JSON line each' },
  'audit-required': { boolean: true, group: 'Accounts:', describe: 'answer 503 to what cannot be recorded' },
  policy: { string: true, group: 'Accounts:', describe: 'grant what this JSON file grants, and no more' },

  'http-shutdown': { boolean: true, group: 'Stopping:', describe: 'GET /shutdown stops the daemon' },
  'shutdown-timeout': { string: true, default: '10', group: 'Stopping:', describe: 'seconds that running answers may take to finish' },

  'run-as': { string: true, group: 'Custody:', describe: 'give up root for this user, once started' },
  'unsafe-unlocked-memory': { boolean: true, group: 'Custody:', describe: 'run even where the key cannot be locked in memory' },

  help: { boolean: true, group: 'Others:', describe: 'show this' },
  version: { boolean: true, group: 'Others:', describe: 'show the version' },
} as const;

type FlagName = keyof typeof flags;

const usageHint = 'see responses-api-proxy --help';

/**
 * Reads the command line.
 *
 * @param environment for HTTPS_PROXY and NO_PROXY
 * @throws {Failure} with exit code 2. The message never holds an argument that is not a flag's name: it could be a key.
 */
export async function parseCommandLine(argv: readonly string[], environment: NodeJS.ProcessEnv): Promise<Command> {
  const { values, words } = await readArguments(argv, flags, usageHint);
  if (words.length > 0) throw misuse('unexpected argument', 'the key comes on stdin, never on the command line');
  if (values.help === true) return { kind: 'print', text: await helpText(usage, flags, examples) };
  if (values.version === true) return { kind: 'print', text: version() };
  return { kind: 'run', options: Object.freeze(validate(values, environment)) };
}

const usage = 'printenv OPENAI_API_KEY | env -u OPENAI_API_KEY $0 [flags]';

/** One for each group of flags. */
const examples: ReadonlyArray<[command: string, theme: string]> = [
  ['$0 --port 8080', 'Listening'],
  ['$0 --upstream-url https://gateway.example/v1/responses', 'Upstream'],
  ['$0 --allow-user ci --issue-token --server-info /run/proxy.json', 'Who may ask'],
  ['$0 --policy codex.json --audit-log /var/log/proxy-audit.jsonl', 'Accounts'],
  ['$0 audit summary /var/log/proxy-audit.jsonl', 'Accounts, read'],
  ['$0 --http-shutdown --shutdown-timeout 60', 'Stopping'],
  ['$0 --run-as nobody', 'Custody'],
];

function validate(values: Values<FlagName>, environment: NodeJS.ProcessEnv): Options {
  const text = (name: FlagName): string | undefined => {
    const value = values[name];
    if (value === undefined) return undefined;
    if (typeof value !== 'string' || value === '') throw misuse(`--${name} needs a value`);
    return value;
  };
  const milliseconds = (name: FlagName): number => Math.round(number(name, text(name) ?? '', /^\d+(\.\d{1,3})?$/, 0, maxSeconds, 'seconds') * 1000);

  const endpoint = endpointOf(text('endpoint') ?? '');
  const authHeader = fieldName('auth-header', text('auth-header') ?? '');
  const port = text('port');
  const serverInfo = text('server-info');
  const serverInfoOwner = text('server-info-owner');
  const logFile = text('log-file');
  const auditLog = text('audit-log');
  const isAuditRequired = values['audit-required'] === true;
  if (isAuditRequired && auditLog === undefined) throw misuse('--audit-required needs --audit-log');
  if (auditLog !== undefined && [logFile, serverInfo].some((file) => file !== undefined && placeOf(file) === placeOf(auditLog))) {
    throw misuse('--audit-log needs a file of its own');
  }
  const policyFile = text('policy');
  const ownHeaders = upstreamHeaders(all('upstream-header', values), authHeader);
  const setsEncoding = [authHeader, ...ownHeaders.map(({ name }) => name)].some((name) => canonicalName(name) === 'accept-encoding');
  if (setsEncoding && (auditLog ?? policyFile) !== undefined) {
    throw misuse('Accept-Encoding is for the daemon to set beside --audit-log or --policy: they read the answer');
  }
  if (serverInfoOwner !== undefined && serverInfo === undefined) throw misuse('--server-info-owner needs --server-info');
  return {
    port: port === undefined ? 0 : number('port', port, /^\d+$/, 1, 65_535, 'a port'),
    maxConnections: number('max-connections', text('max-connections') ?? '', /^\d+$/, 1, 100_000, 'a number'),
    endpoint,
    httpShutdown: values['http-shutdown'] === true,
    httpHealth: values['http-health'] === true,
    websocketFallback: values['websocket-fallback'] === true,
    shutdownTimeoutMs: milliseconds('shutdown-timeout'),
    upstream: {
      ...upstreamOf(text('upstream-url') ?? `https://api.openai.com${endpoint}`, text('upstream-proxy'), environment),
      ca: certificates(text('upstream-ca')),
      connectTimeoutMs: milliseconds('connect-timeout'),
      responseTimeoutMs: milliseconds('response-timeout'),
      idleTimeoutMs: milliseconds('idle-timeout'),
      keepWarmMs: milliseconds('keep-warm'),
    },
    upstreamHeaders: ownHeaders,
    authHeader,
    authScheme: schemeOf(text('auth-scheme') ?? ''),
    serverInfo,
    logFile,
    auditLog,
    isAuditRequired,
    policyFile,
    serverInfoOwner,
    runAs: text('run-as'),
    allowUsers: all('allow-user', values),
    token: tokenOf(values['issue-token'] === true, text('client-token-file'), serverInfo),
    unsafeUnlockedMemory: values['unsafe-unlocked-memory'] === true,
  };
}

/** Where a file is or will be, whatever links lead to its folder. */
function placeOf(file: string): string {
  const folder = dirname(resolve(file));
  try {
    return join(realpathSync(folder), basename(file));
  } catch {
    return join(folder, basename(file));
  }
}

function number(name: FlagName, text: string, form: RegExp, least: number, most: number, what: string): number {
  const value = form.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw misuse(`--${name} takes ${what} from ${least} to ${most}, not ${foreign(text)}`);
}

/** The values of a flag that can be repeated. */
function all(name: FlagName, values: Values<FlagName>): string[] {
  const given = values[name];
  return [given ?? []].flat().map((value) => {
    if (typeof value !== 'string' || value === '') throw misuse(`--${name} needs a value`);
    return value;
  });
}

function endpointOf(given: string): string {
  if (/^\/[\x21-\x7e]*$/.test(given) && !/[?#\\]/.test(given) && given.length <= maxEndpointLength && !ownRoutes.has(given)) return given;
  throw misuse('--endpoint takes a path such as /v1/chat/completions, without a query');
}

/** RFC 9110 section 5.6.2: a token. */
function isToken(text: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(text);
}

function fieldName(flag: FlagName, name: string): string {
  if (!isToken(name) || name.length > maxFieldNameLength) throw misuse(`--${flag} takes the name of a header`);
  if (isReserved(name)) throw misuse(`--${flag} cannot be ${name}: it is for the daemon to set`);
  return name;
}

function upstreamHeaders(given: readonly string[], authHeader: string): Field[] {
  const fields = given.map((text) => upstreamHeader(text, authHeader));
  const names = fields.map(({ name }) => canonicalName(name));
  const again = fields.find((_field, index) => names.indexOf(names[index] ?? '') < index);
  if (again !== undefined) throw misuse(`--upstream-header ${again.name} was given twice`);
  return fields;
}

function upstreamHeader(given: string, authHeader: string): Field {
  const [, name = '', value = ''] = /^([^:]*):[ \t]*(.*?)[ \t]*$/s.exec(given) ?? [];
  fieldName('upstream-header', name);
  if ([canonicalName(authHeader), 'authorization'].includes(canonicalName(name))) throw misuse('--upstream-header cannot be the header that carries the key');
  if (!/^[\t\x20-\x7e]*$/.test(value)) throw misuse(`--upstream-header ${name} has characters that no header has`);
  return { name, value };
}

function schemeOf(given: string): string | undefined {
  if (!isToken(given) || given.length > maxFieldNameLength) throw misuse('--auth-scheme takes one word, or none');
  return given.toLowerCase() === 'none' ? undefined : given;
}

/** The upstream's origin, target and proxy. Path and query are kept as text: URL would normalise them. */
function upstreamOf(given: string, proxy: string | undefined, environment: NodeJS.ProcessEnv): Pick<UpstreamOptions, 'origin' | 'target' | 'proxy'> {
  const refuse = (why: string): Failure => misuse(`--upstream-url ${why}`);
  // Before URL sees it: that one drops tabs and line ends, and takes a backslash for a slash.
  if (!/^[\x21-\x7e]+$/.test(given) || given.includes('\\')) throw refuse('has characters that no URL has');
  const [, scheme, authority = '', rest = ''] = /^([a-z]+):\/\/([^/?#]*)(.*)$/i.exec(given) ?? [];
  if (!/^https?$/i.test(scheme ?? '')) throw refuse('must begin with https:// (or http:// on loopback)');
  if (authority.includes('@')) throw refuse('must not hold a user or a password: the key comes on stdin');
  if (rest.includes('#')) throw refuse('must not have a fragment');
  let origin: URL;
  try {
    origin = new URL(`${scheme}://${authority}`);
  } catch {
    throw refuse('is no URL');
  }
  if (given.length > maxBytesBeforeKey / 2) throw refuse(`is longer than ${maxBytesBeforeKey / 2} bytes`);
  const isCleartext = origin.protocol === 'http:';
  if (isCleartext && !isLoopback(origin.hostname)) throw refuse('must begin with https://: in the clear the key goes to loopback alone');
  if (isCleartext && proxy !== undefined && proxy !== 'none') throw misuse('--upstream-proxy needs an https upstream: it would read the key');
  return { origin, target: rest.startsWith('/') ? rest : `/${rest}`, proxy: proxyOf(proxy, origin, environment) };
}

function proxyOf(given: string | undefined, origin: URL, environment: NodeJS.ProcessEnv): URL | undefined {
  if (given === 'none') return undefined;
  const text = given ?? environmentProxy(origin, environment);
  if (text === undefined) return undefined;
  const source = given === undefined ? 'HTTPS_PROXY' : '--upstream-proxy';
  const url = tryUrl(text);
  const isBare = url !== undefined && isDecodable(`${url.username}${url.password}`) && url.pathname === '/' && url.search === '' && url.hash === '' && url.hostname !== '';
  if (!isBare || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw misuse(`${source} must be http://[user:password@]host:port`, 'pass --upstream-proxy none to go without');
  }
  return url;
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

function tryUrl(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

/** The CAs in a file, as PEM. Each is parsed here, because OpenSSL passes over what it cannot read. */
function certificates(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  const pem = read('upstream-ca', file);
  const blocks = pem.match(/-----BEGIN (TRUSTED )?CERTIFICATE-----[^-]*-----END \1?CERTIFICATE-----/g) ?? [];
  try {
    if (blocks.length === 0) throw new Error('none');
    for (const block of blocks) new X509Certificate(block);
  } catch {
    throw new Failure(`--upstream-ca ${file} holds no readable certificate`, { hint: 'it takes a PEM file of CA certificates' });
  }
  return blocks.join('\n');
}

function tokenOf(isIssued: boolean, file: string | undefined, serverInfo: string | undefined): Options['token'] {
  if (isIssued && file !== undefined) throw misuse('--issue-token and --client-token-file exclude each other');
  if (isIssued && serverInfo === undefined) throw misuse('--issue-token needs --server-info, where the token goes');
  if (isIssued) return { kind: 'issued' };
  if (file === undefined) return { kind: 'none' };
  const token = readTrustedFile('--client-token-file', file).replace(/[\r\n]+$/, '');
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(token) || token.length > maxTokenBytes) {
    throw new Failure(`--client-token-file ${file} holds no token`, {
      hint: `one line of letters, digits and - . _ ~ + / =, at most ${maxTokenBytes}; for example: openssl rand -hex 32`,
    });
  }
  return { kind: 'given', token };
}

function read(name: FlagName, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Failure(`cannot read --${name} ${file}: ${reason(error)}`, { hint: 'it is read once, at start, by the user who starts the daemon' });
  }
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  return manifest.version;
}

function misuse(message: string, hint = usageHint): Failure {
  return misuseOf(message, hint);
}
