import { maxBytesBeforeKey } from '../key/locked-key.ts';
import { type Failure, usageFailure } from '../run/failure.ts';
import { environmentProxy, isLoopback } from './environment-proxy.ts';

/**
 * The upstream that `--upstream-url` names. Path and query stay as they were written: URL would normalise them.
 *
 * @param endpoint what the daemon serves
 * @param notices gets what the user should be told
 * @throws {Failure} with exit code 2; the message does not repeat the URL, whose query may hold a secret
 */
export function parseUpstreamUrl(given: string, endpoint: string, notices: string[]): { origin: URL; target: string } {
  // Before URL sees it: URL drops tabs and line ends, and takes a backslash for a slash.
  if (!/^[\x21-\x7e]+$/.test(given) || given.includes('\\')) throw refuse('has characters that no URL has');
  const [, scheme, authority = '', rest = ''] = /^([a-z]+):\/\/([^/?#]*)(.*)$/i.exec(given) ?? [];
  if (!/^https?$/i.test(scheme ?? '')) throw refuse('must begin with https:// (or http:// on loopback)');
  if (authority.includes('@')) throw refuse('must not hold a user or a password: the key comes on stdin');
  if (rest.includes('#')) throw refuse('must not have a fragment');
  const origin = tryUrl(`${scheme}://${authority}`);
  if (origin === undefined) throw refuse('is not a URL');
  if (given.length > maxBytesBeforeKey / 2) throw refuse(`is longer than ${maxBytesBeforeKey / 2} bytes`);
  if (isCleartext(origin) && !isLoopback(origin.hostname)) throw refuse('must begin with https://: unencrypted, the key goes to loopback only');
  const target = rest.startsWith('/') ? rest : `/${rest}`;
  if (/^(\/v1)?\/?$/.test(target) && target !== endpoint) notices.push(`--upstream-url names no base URL, but where requests go: should its path be ${endpoint}?`);
  return { origin, target };
}

/**
 * The proxy to tunnel through, and where it was named.
 *
 * @param given the value of `--upstream-proxy`; undefined to ask the environment
 * @param environment for HTTPS_PROXY, ALL_PROXY and NO_PROXY
 * @param notices gets what the user should be told
 * @throws {Failure} with exit code 2; the message does not repeat the URL, which may hold a password
 */
export function parseProxy(given: string | undefined, origin: URL, environment: NodeJS.ProcessEnv, notices: string[]): URL | undefined {
  if (given === 'none') return undefined;
  if (given !== undefined && isCleartext(origin)) throw usageFailure('--upstream-proxy needs an https upstream: it would read the key');
  const named = given === undefined ? environmentProxy(origin, environment) : { variable: '--upstream-proxy', url: given };
  if (named === undefined) return undefined;
  const { variable, url: text } = named;
  if (/^all_proxy$/i.test(variable) && /^socks/i.test(text)) {
    notices.push(`${variable} names a SOCKS proxy, and is passed over: only HTTP proxies are supported`); // it is there for other programs
    return undefined;
  }
  const url = tryUrl(text);
  if (url !== undefined && isBareHttp(url)) return url;
  const hint = text.includes('@') ? 'write # / ? @ \\ and other special characters of the password percent-encoded: %23 for #' : 'pass --upstream-proxy none to go without';
  throw usageFailure(`${variable} must be http://[user:password@]host:port`, hint);
}

function refuse(why: string): Failure {
  return usageFailure(`--upstream-url ${why}`);
}

function isCleartext(origin: URL): boolean {
  return origin.protocol === 'http:';
}

/** Nothing but scheme, host, port and credentials. */
function isBareHttp(url: URL): boolean {
  const isHttp = url.protocol === 'http:' || url.protocol === 'https:';
  return isHttp && url.hostname !== '' && url.pathname === '/' && url.search === '' && url.hash === '';
}

function tryUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}
