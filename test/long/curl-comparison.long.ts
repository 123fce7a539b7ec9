import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, type TestContext } from 'vitest';
import { Authority } from '../../scripts/certificates.ts';
import { makeChain, otherCaFile } from '../support/certificates.ts';
import { launch, startDaemon } from '../support/daemon.ts';
import { nativeTool, runTool } from '../support/native-tools.ts';
import { canMakeNetworkNamespaces, needsNetworkNamespaces } from '../support/network-namespace.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { sealedNetwork, type SealedNetwork } from '../support/sealed-network.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

// Where curl connects, the daemon connects, by the same way. What differs on purpose stands in `meant`.

type Variables = Readonly<Record<string, string>>;

async function wayOfCurl(network: SealedNetwork, url: string, env: Variables, args: readonly string[] = []): Promise<string> {
  const before = network.reached.length;
  const [command = '', ...rest] = [...network.enter, 'env', '-i', ...Object.entries(env).map(([name, value]) => `${name}=${value}`), 'curl', '--disable', '--silent', '--max-time', '20', ...args, url];
  await runTool(command, rest);
  await network.settled();
  return network.reached[before] ?? 'nowhere';
}

/** It makes one connection by itself as soon as it listens. Where its command line is refused, it leads nowhere. */
async function wayOfDaemon(network: SealedNetwork, url: string, env: Variables, args: readonly string[] = []): Promise<string> {
  const before = network.reached.length;
  const running = launch({ args: ['--upstream-url', url, ...args], env, prefix: network.enter });
  const failed = running.waitForStderr(/no connection to the upstream yet: .*\n/).catch(() => undefined);
  await Promise.race([network.next(before).catch(() => undefined), failed]);
  await running.stop();
  await network.settled();
  return network.reached[before] ?? 'nowhere';
}

interface Difference {
  readonly is: (env: Variables, url: string) => boolean;
  /** What the daemon does. */
  readonly daemon: string;
  readonly reason: string;
}

const proxyIs = (...urls: readonly string[]) => ({ HTTPS_PROXY: url = '' }: Variables): boolean => urls.includes(url);
const exempts = (...entries: readonly string[]) => ({ NO_PROXY: entry = '' }: Variables): boolean => entries.includes(entry);

/** Differences from curl 7.88 that are meant. Later versions of curl do some of this as well. */
const meant: readonly Difference[] = [
  { is: (_env, url) => /localhost|127\.0\.0\.1/.test(url), daemon: 'TLS at 8443', reason: 'what is on this machine is never reached through another' },
  { is: proxyIs('http://proxy.example'), daemon: 'CONNECT at 80', reason: 'the port of http, as in every other program; curl takes 1080' },
  { is: proxyIs('socks5://proxy.example:1080'), daemon: 'nowhere', reason: 'SOCKS is not spoken: refused with a hint' },
  { is: ({ ALL_PROXY, HTTPS_PROXY }) => ALL_PROXY?.startsWith('socks') === true && HTTPS_PROXY === undefined, daemon: 'TLS at 8443', reason: 'SOCKS is not spoken, and ALL_PROXY is for other programs: told, and passed over' },
  { is: proxyIs('http://proxy.example:3128/path', 'http://user:a\\b@proxy.example:3128'), daemon: 'nowhere', reason: 'may be a password that is not percent-encoded: refused with a hint' },
  { is: exempts('* ', '*,other.test'), daemon: 'TLS at 8443', reason: 'a * among others is one too' },
  { is: (env, url) => exempts('*.corp.example')(env) && [name, dotted].includes(url), daemon: 'TLS at 8443', reason: 'means the same as .corp.example, as in other programs' },
  { is: (env, url) => exempts('api.corp.example:8443')(env) && [name, dotted].includes(url), daemon: 'TLS at 8443', reason: 'an entry may have a port, as in other programs' },
  { is: (env, url) => exempts('10.20.30.40:8443', '0.0.0.0/0')(env) && url === ipv4, daemon: 'TLS at 8443', reason: 'the same, and a prefix of 0, which curl takes for none' },
  { is: (env, url) => exempts('fd00:0::5', '[fd00::5]')(env) && url === ipv6, daemon: 'TLS at 8443', reason: 'curl compares IPv6 addresses as text (until 8.18)' },
  { is: (env, url) => exempts('fd00::/8', 'fd00::/16', 'fd00::4/127')(env) && url === ipv6, daemon: 'TLS at 8443', reason: 'curl reads prefixes of IPv6 wrong (until 8.17)' },
];

const [name, ipv4, ipv6, dotted] = ['https://api.corp.example:8443/v1/responses', 'https://10.20.30.40:8443/v1/responses', 'https://[fd00::5]:8443/v1/responses', 'https://api.corp.example.:8443/v1/responses'];
const [first, second] = ['http://proxy.example:3128', 'http://proxy.example:3129'];

function needsCurl(context: TestContext): void {
  needsNetworkNamespaces(context);
  needs(context, 'command curl');
}

describe('proxies and exemptions', () => {
  let network: SealedNetwork | undefined;
  beforeAll(async () => {
    if (!canMakeNetworkNamespaces()) return;
    network = await sealedNetwork({
      setUp: 'for one in 10.20.30.40/32 10.20.30.1/32 fd00::5/128; do ip address add $one dev lo; done',
      hosts: '127.0.0.1 localhost\n10.20.30.40 api.corp.example api.corp.example.\n10.20.30.1 proxy.example\n',
      recording: [80, 443, 1080, 3128, 3129, 8443],
    });
  });

  async function expectSame(context: TestContext, url: string, env: Variables): Promise<void> {
    needsCurl(context);
    if (network === undefined) throw new Error('no network');
    const { daemon, reason } = meant.find(({ is }) => is(env, url)) ?? {};
    expect(await wayOfDaemon(network, url, env), reason).toBe(daemon ?? (await wayOfCurl(network, url, env)));
  }

  const variables: readonly Variables[] = [
    {}, { HTTPS_PROXY: first }, { https_proxy: first }, { HTTPS_PROXY: first, https_proxy: second }, { HTTPS_PROXY: first, https_proxy: '' }, { HTTPS_PROXY: '' },
    { ALL_PROXY: first }, { all_proxy: first }, { ALL_PROXY: first, all_proxy: second }, { ALL_PROXY: first, all_proxy: '' }, { ALL_PROXY: first, HTTPS_PROXY: second }, { all_proxy: first, HTTPS_PROXY: second },
    { all_proxy: first, HTTPS_PROXY: '', https_proxy: '' }, { HTTP_PROXY: first, http_proxy: first }, { HTTPS_PROXY: 'proxy.example:3128' }, { HTTPS_PROXY: 'user:pass@proxy.example:3128' },
    { HTTPS_PROXY: `${first}/` }, { HTTPS_PROXY: 'HTTP://proxy.example:3128' }, { HTTPS_PROXY: 'http://user:p%25s%23@proxy.example:3128' }, { HTTPS_PROXY: 'http://10.20.30.1:3128' },
    { HTTPS_PROXY: 'http://[fd00::5]:3128' }, { HTTPS_PROXY: 'https://proxy.example:3129' }, { HTTPS_PROXY: 'https://proxy.example' }, { HTTPS_PROXY: 'http://nobody.example:3128' }, { HTTPS_PROXY: 'http://proxy.example:9' },
    { HTTPS_PROXY: 'http://proxy.example' }, { HTTPS_PROXY: `${first}/path` }, { HTTPS_PROXY: 'http://user:100%@proxy.example:3128' }, { HTTPS_PROXY: 'http://user:a\\b@proxy.example:3128' }, { HTTPS_PROXY: 'http://user:a#b@proxy.example:3128' }, { HTTPS_PROXY: 'socks5://proxy.example:1080' }, { ALL_PROXY: 'socks5h://proxy.example:1080' }, { ALL_PROXY: 'socks5h://proxy.example:1080', HTTPS_PROXY: first },
    { HTTPS_PROXY: 'ftp://proxy.example:3128' }, { HTTPS_PROXY: first, NO_PROXY: 'corp.example', no_proxy: '' }, { HTTPS_PROXY: first, NO_PROXY: 'corp.example', no_proxy: 'other.test' }, { ALL_PROXY: first, NO_PROXY: 'corp.example' },
  ];
  test.for(variables)('%j', (env, context) => expectSame(context, name, env));

  test.for(['https://localhost:8443/v1/responses', 'https://127.0.0.1:8443/v1/responses', dotted])('%s', (url, context) => expectSame(context, url, { HTTPS_PROXY: first }));

  const exemptions: readonly string[] = [
    '*', '* ', 'api.corp.example', '.corp.example', 'corp.example', 'example', 'orp.example', 'API.Corp.EXAMPLE', 'api.corp.example.', '.corp.example.', 'other.test api.corp.example', 'other.test,api.corp.example',
    'other.test, api.corp.example', ',,api.corp.example,', 'xapi.corp.example', '10.20.30.40', '10.20.0.0/16', '10.0.0.0/8', '10.20.30.40/32', '10.20.30.41/31', '11.0.0.0/8', '30.40', 'other.test,10.0.0.0/8',
    'fd00::5', 'fd00:0::5', 'FD00::5', 'fd00::/8', 'fd00::/16', 'fd00::4/127', 'fe80::/10', '[fd00::5]', '::/64', 'api.corp.example:8443', '10.20.30.40:8443', '*.corp.example', '0.0.0.0/0', '*,other.test',
  ];
  const combinations = [name, dotted, ipv4, ipv6].flatMap((url) => exemptions.map((entry) => [url, entry] as const));
  test.for(combinations)('%s with NO_PROXY=%s', ([url, entry], context) => expectSame(context, url, { HTTPS_PROXY: first, NO_PROXY: entry }));
});

describe('certificates to trust', () => {
  const read = (file: string): string => readFileSync(file, 'utf8');
  const openssl = (...args: string[]): Buffer => execFileSync('openssl', ['x509', ...args]);
  const forms: Readonly<Record<string, (chain: ReturnType<typeof makeChain>) => string | Buffer>> = {
    'the root CA': ({ root }) => read(root),
    'the issuing CA': ({ issuing }) => read(issuing),
    'the certificate itself': ({ leaf }) => read(leaf.cert),
    'the chain': ({ root, issuing, leaf }) => [leaf.cert, issuing, root].map(read).join('\n'),
    'among others': ({ root }) => read(otherCaFile()) + read(root),
    'the label X509 CERTIFICATE': ({ root }) => read(root).replaceAll(' CERTIFICATE', ' X509 CERTIFICATE'),
    'the label TRUSTED CERTIFICATE': ({ root }) => openssl('-in', root, '-trustout', '-addtrust', 'serverAuth'),
    'trusted for clients alone': ({ root }) => openssl('-in', root, '-trustout', '-addtrust', 'clientAuth'),
    'text around it, and CR LF': ({ root }) => openssl('-in', root, '-text').toString().replaceAll('\n', '\r\n'),
    'another CA': () => read(otherCaFile()),
    'DER': ({ root }) => openssl('-in', root, '-outform', 'DER'),
    'nothing': () => '',
  };
  test.for(Object.entries(forms))('%s', async ([, make], context) => {
    needs(context, 'command curl');
    const chain = makeChain();
    const upstream = await startUpstream({ secureContext: { cert: read(chain.leaf.cert) + read(chain.issuing), key: read(chain.leaf.key) }, answer: answer(200, '{}') });
    const file = join(scratchFolder(), 'ca.pem');
    writeFileSync(file, make(chain));
    const { code } = await runTool('curl', ['--disable', '--silent', '--cacert', file, '--noproxy', '*', '--data', '{}', upstream.url]);
    const status = await startDaemon({ args: ['--upstream-url', upstream.url, '--upstream-ca', file] }).then(async ({ port }) => (await ask(port)).status, () => 'refused');
    expect(status === 200).toBe(code === 0);
  });
});

describe('networks', () => {
  const host = 'far.example';
  const url = `https://${host}/v1/responses`;
  const vanishing = 'ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; sysctl -qw net.ipv6.conf.all.forwarding=0; for one in 10.66.0.1 2001:db8::66; do ip route add $one dev v0; ip neigh add $one lladdr 02:00:00:00:00:01 dev v0; done';
  const eight = Array.from({ length: 8 }, (_, index) => `10.${20 * index + 7}.0.1`);

  /** What stands for the upstream listens on the last address of `hosts`, and the names lead to all of them. */
  const networks: ReadonlyArray<readonly [what: string, setUp: string, addresses: readonly string[], listening: string | undefined, far?: true]> = [
    ['320 ms away, with an address to which no route leads', ':', ['2001:db8::1', '10.99.0.2'], '10.99.0.1', true],
    ['an address whose packets vanish comes first', vanishing, ['2001:db8::66', '127.0.0.2'], '127.0.0.2'],
    ['eight addresses, seven of which refuse', `for one in ${eight.join(' ')}; do ip address add $one dev lo; done`, eight, eight[7]],
    ['IPv6 alone', 'ip address add fd00::5 dev lo', ['fd00::5'], 'fd00::5'],
    ['a route that is closed', 'ip route add blackhole 10.44.0.0/16; ip address add fd00::5 dev lo', ['10.44.0.1', 'fd00::5'], 'fd00::5'],
    ['all refuse', ':', ['127.0.0.2', '127.0.0.3'], undefined],
    ['all vanish', vanishing, ['10.66.0.1'], undefined],
  ];

  let certificate: { cert: string; key: string; ca: string };
  beforeAll(() => {
    const authority = new Authority(scratchFolder(), 'ca');
    certificate = { ...authority.issue('far', `DNS:${host},DNS:localhost`), ca: authority.caFile };
  });

  test.for(networks)('%s', async ([, setUp, addresses, listening, far], context) => {
    needsCurl(context);
    if (far === true) {
      needs(context, 'command cc');
      skipUnless(context, existsSync('/dev/net/tun'), 'needs /dev/net/tun');
    }
    const sealed = await sealedNetwork({
      setUp: far === true ? `set -- '${await nativeTool('far-network')}' 160 10.99.0.1/24 "$@"` : setUp,
      hosts: `127.0.0.1 localhost\n${addresses.map((one) => `${one} ${host}\n`).join('')}`,
      ...certificate,
      tls: listening === undefined ? [] : [{ host: listening, port: 443 }],
    });
    const limit = listening === undefined ? '3' : '30'; // of which curl gives each address a part
    const curl = await wayOfCurl(sealed, url, {}, ['--cacert', certificate.ca, '--connect-timeout', limit]);
    const daemon = await wayOfDaemon(sealed, url, {}, ['--upstream-ca', certificate.ca, '--connect-timeout', limit]);
    expect(curl).toBe(listening ?? 'nowhere');
    expect(daemon).toBe(curl);
  });

  test('localhost which is ::1 alone', async (context) => {
    needsCurl(context);
    const sealed = await sealedNetwork({ setUp: ':', hosts: '127.0.0.1 localhost\n::1 localhost\n', ...certificate, tls: [{ host: '::1', port: 443 }] });
    const near = 'https://localhost/v1/responses';
    expect(await wayOfCurl(sealed, near, {}, ['--cacert', certificate.ca])).toBe('::1');
    expect(await wayOfDaemon(sealed, near, {}, ['--upstream-ca', certificate.ca])).toBe('::1');
  });
});
