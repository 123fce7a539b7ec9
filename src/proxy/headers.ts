/** Fields that speak of one connection only (RFC 9110 section 7.6.1), beside `Proxy-*` and what Connection names. */
const hopByHop = new Set(['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade']);

/** Fields that say where a body ends. Naming them in Connection does not take them away, or the body would go on without end. */
const framing = new Set(['content-length', 'host']);

/** What takes the place of the client's own in a request. */
export interface UpstreamCredential {
  /** The field that carries the key: its name as sent. */
  name: string;
  /** Its value, with a placeholder where the key will stand. */
  value: string;
}

/**
 * The fields of a request as they go upstream: the credential first (the key has to stand in the head's first bytes),
 * then the client's end-to-end fields in their order and case. Host and Expect are settled here and stay here;
 * Accept-Encoding becomes `identity`, so that the answer can be searched for the key.
 *
 * @param raw names and values in turn, as node:http gives them
 */
export function toUpstream(raw: readonly string[], credential: UpstreamCredential): string[] {
  const fields = [credential.name, credential.value];
  const named = namedByConnection(raw);
  const credentialName = credential.name.toLowerCase();
  let encodingAsked = false;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const lowerCased = name.toLowerCase();
    if (stopsHere(lowerCased, named)) continue;
    switch (lowerCased) {
      case 'host':
      case 'expect':
      case 'authorization':
      case credentialName:
        continue;
      case 'accept-encoding':
        if (!encodingAsked) fields.push(name, 'identity');
        encodingAsked = true;
        continue;
      default:
        fields.push(name, raw[i + 1] ?? '');
    }
  }
  if (!encodingAsked) fields.push('Accept-Encoding', 'identity');
  return fields;
}

/**
 * The fields of an answer as they go to the client, in their order and case.
 *
 * @param raw names and values in turn
 */
export function toClient(raw: readonly string[]): string[] {
  const fields: string[] = [];
  const named = namedByConnection(raw);
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? '';
    if (!stopsHere(name.toLowerCase(), named)) fields.push(name, raw[i + 1] ?? '');
  }
  return fields;
}

function stopsHere(name: string, named: ReadonlySet<string> | undefined): boolean {
  return hopByHop.has(name) || name.startsWith('proxy-') || (named !== undefined && named.has(name) && !framing.has(name));
}

/** The field names that Connection lists, in lower case; undefined where there are none. */
function namedByConnection(raw: readonly string[]): Set<string> | undefined {
  let named: Set<string> | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]?.length !== 'connection'.length || raw[i]?.toLowerCase() !== 'connection') continue;
    for (const option of raw[i + 1]?.split(',') ?? []) (named ??= new Set()).add(option.trim().toLowerCase());
  }
  return named;
}
