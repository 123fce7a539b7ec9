import { BlockList, isIP } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Whether a URL's hostname can only mean this machine, so that cleartext to it does not leave the machine. */
export function isLoopback(hostname: string): boolean {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(address);
  return hostname === 'localhost' || (family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6'));
}

/**
 * The proxy that the environment names for an upstream: HTTPS_PROXY, unless NO_PROXY lists the host, and never for
 * loopback. As in curl, the lower-case names come first, and an empty variable counts as unset.
 *
 * @returns the proxy's URL as text, or undefined for none
 */
export function environmentProxy(upstream: URL, environment: NodeJS.ProcessEnv): string | undefined {
  if (upstream.protocol !== 'https:' || isLoopback(upstream.hostname)) return undefined;
  const proxy = environment['https_proxy'] || environment['HTTPS_PROXY'] || '';
  if (proxy === '' || isExempt(upstream, environment['no_proxy'] || environment['NO_PROXY'] || '')) return undefined;
  return proxy.includes('://') ? proxy : `http://${proxy}`;
}

/** NO_PROXY lists names, which include their subdomains, addresses, `host:port`, or `*`. */
function isExempt({ hostname, port }: URL, list: string): boolean {
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      const [, name = '', entryPort] = /^(.*?)(?::(\d+))?$/.exec(entry) ?? [];
      if (entryPort !== undefined && entryPort !== (port || '443')) return false;
      const domain = name.replace(/^\*?\./, '');
      return hostname === domain || hostname.endsWith(`.${domain}`);
    });
}
