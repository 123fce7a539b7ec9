import { BlockList, isIP } from 'node:net';

/** Whether a URL's hostname can only mean this machine, so that cleartext to it does not leave the machine. */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || ['127.0.0.0/8', '::1'].some((subnet) => isWithinSubnet(bare(hostname), subnet));
}

/** The variables that name a proxy for an https upstream, in curl's order. The starter passes them on (`../native/starter.c`). */
const proxyVariables = ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'];

/**
 * The proxy that the environment names for an upstream, as curl finds it: the first variable that is not empty, unless
 * NO_PROXY lists the host. Never for loopback.
 *
 * @returns the variable's name, and the proxy's URL as text; undefined for none
 */
export function environmentProxy(upstream: URL, environment: NodeJS.ProcessEnv): { variable: string; url: string } | undefined {
  if (upstream.protocol !== 'https:' || isLoopback(upstream.hostname)) return undefined;
  const variable = proxyVariables.find((name) => environment[name]); // an empty one counts as unset
  if (variable === undefined || isExempt(upstream, environment['no_proxy'] || environment['NO_PROXY'] || '')) return undefined;
  const url = environment[variable] ?? '';
  return { variable, url: url.includes('://') ? url : `http://${url}` };
}

/** NO_PROXY lists names, which include their subdomains, addresses, subnets (`10.0.0.0/8`), any of these with a port, or `*`. */
function isExempt({ hostname, port }: URL, list: string): boolean {
  const host = bare(hostname);
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '*') return true;
      // With two colons and no brackets it is an address without a port.
      const [, bracketed, plain, entryPort] = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(entry) ?? [];
      if (entryPort !== undefined && entryPort !== (port || '443')) return false;
      const name = bracketed ?? plain ?? entry.replace(/^\[(.*?)\]/, '$1');
      if (isIP(host) !== 0) return isWithinSubnet(host, name);
      const domain = bare(name.replace(/^\*?\./, ''));
      return host === domain || host.endsWith(`.${domain}`);
    });
}

function isWithinSubnet(host: string, subnet: string): boolean {
  const [, address = '', prefix] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(subnet) ?? [];
  const [type, longest] = isIP(address) === 4 ? (['ipv4', 32] as const) : (['ipv6', 128] as const);
  if (isIP(address) === 0 || isIP(address) !== isIP(host) || Number(prefix ?? 0) > longest) return false;
  const list = new BlockList();
  list.addSubnet(address, Number(prefix ?? longest), type);
  return list.check(host, type);
}

/** A URL's hostname without the brackets around an IPv6 address, and without the dot that ends a full name. */
export function bare(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '');
}
