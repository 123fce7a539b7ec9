/** Fields that speak of one connection only (RFC 9110 section 7.6.1), beside `Proxy-*` and what Connection names. */
const hopByHop = new Set(['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade']);

/** Fields that Connection cannot take away by naming them: without them a message has no end, or no addressee. */
const neverNamed = new Set(['content-length', 'host']);

/** What a request carries upstream beside the client's own fields. */
export interface OwnFields {
  /** Names and values in turn. The one with the key (or its placeholder) is first: the key has to stand in the head's first bytes. */
  readonly fields: readonly string[];
  /** Names, see `canonicalName`, of the client's fields that stay here: ours come in their place, or they are settled here. */
  readonly replaced: ReadonlySet<string>;
}

/**
 * @param credential the field that carries the key
 * @param others further fields, each in place of the client's of that name
 */
export function ownFields(credential: Field, others: readonly Field[]): OwnFields {
  const own = [credential, ...others];
  return {
    fields: own.flatMap(({ name, value }) => [name, value]),
    replaced: new Set(['host', 'expect', 'authorization', ...own.map(({ name }) => canonicalName(name))]),
  };
}

export interface Field {
  readonly name: string;
  readonly value: string;
}

/**
 * What a field's name comes to: case does not count, and a server that hands fields to programs as variables takes `_`
 * for `-` (RFC 3875 section 4.1.18), so that a client's `api_key` could come in the way of our `api-key`.
 */
export function canonicalName(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}

/** Whether a field is the daemon's to decide, so that its user cannot set it: it frames the message, or speaks of one connection. */
export function isReserved(name: string): boolean {
  const canonical = canonicalName(name);
  return stopsHere(canonical, undefined) || neverNamed.has(canonical) || canonical === 'expect';
}

/**
 * The fields of a request as they go upstream: ours, then the client's end-to-end fields in their order and case.
 *
 * @param raw names and values in turn, as node:http gives them
 */
export function toUpstream(raw: readonly string[], own: OwnFields): string[] {
  const fields = [...own.fields];
  const named = namedByConnection(raw);
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const lowerCased = name.toLowerCase();
    if (stopsHere(lowerCased, named) || own.replaced.has(lowerCased)) continue;
    if (lowerCased.includes('_') && (own.replaced.has(canonicalName(name)) || isReserved(name))) continue;
    fields.push(name, raw[i + 1] ?? '');
  }
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

/**
 * Fields with one of our own, which takes the place of any that have its name.
 *
 * @param own name, in lower case, and value; empty for none
 */
export function withOwn(own: readonly string[], fields: string[]): string[] {
  const [name] = own;
  if (name === undefined) return fields;
  const others = hasField(fields, name) ? fields.filter((_text, index) => fields[index - (index % 2)]?.toLowerCase() !== name) : fields;
  others.push(...own);
  return others;
}

/**
 * Whether there is such a field. Instead of `req.headers`: node builds that object when it is first asked for.
 *
 * @param name in lower case
 */
export function hasField(raw: readonly string[], name: string): boolean {
  return raw.some((text, index) => index % 2 === 0 && text.length === name.length && text.toLowerCase() === name);
}

/** A body's length, in bytes, as its head says; undefined where it does not. */
export function lengthOf(rawHeaders: readonly string[]): number | undefined {
  const at = rawHeaders.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === 'content-length');
  return at === -1 ? undefined : Number(rawHeaders[at + 1]);
}

/**
 * Whether an answer's body is in a transfer coding beside `chunked` (RFC 9112 section 6.1). Nobody asked for one, and
 * nobody here can undo it: passed on without its name, it would be another body.
 */
export function hasForeignCoding(raw: readonly string[]): boolean {
  const codings = raw.filter((_value, index) => index % 2 === 1 && raw[index - 1]?.toLowerCase() === 'transfer-encoding');
  return codings.length > 1 || codings.some((coding) => coding.trim().toLowerCase() !== 'chunked');
}

function stopsHere(name: string, named: ReadonlySet<string> | undefined): boolean {
  return hopByHop.has(name) || name.startsWith('proxy-') || (named !== undefined && named.has(name) && !neverNamed.has(name));
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
