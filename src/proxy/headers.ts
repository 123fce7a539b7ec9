import { type RawHeaders, valuesOf } from '../gate/raw-headers.ts';

/** Fields that concern one connection only (RFC 9110 section 7.6.1), beside what Connection names. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection', // It says whether this connection stays open, and names more such fields.
  'keep-alive', // It says for how long. undici and node:http each write their own.
  'te', // It lists the transfer codings that the sender takes back; the daemon decodes them.
  'trailer', // It announces fields behind the body, and those stop here.
  'transfer-encoding', // The body is framed anew. Passed on, it would tell the receiver of a framing that is gone: request smuggling.
  'upgrade', // Both sides would have to change the protocol, and the daemon speaks one.
]);

/** What a sender and the next proxy tell each other: `Proxy-Authorization` holds a password, clients send `Proxy-Connection`. */
const hopByHopPrefix = 'proxy-';

/** Fields that Connection cannot remove by naming them: they delimit and address the message. */
const notRemovable = new Set(['content-length', 'host']);

/** A header field that the daemon sets. */
export interface Field {
  readonly name: string;
  readonly value: string;
}

/** What a request carries upstream beside the client's own fields. */
export interface OwnFields {
  /** The one with the key (or its placeholder) is first: the key has to stand within the head's first bytes. */
  readonly fields: RawHeaders;
  /** Names, see `canonicalName`, of client fields that are dropped: ours replace them, or they are settled here. */
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

/**
 * A name for comparison. Case does not count, and neither does `_` for `-`: a CGI-style server sees both as one
 * variable (RFC 3875 section 4.1.18), so a client's `api_key` could override our `api-key`.
 */
export function canonicalName(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}

/** Whether only the daemon may set a field: it frames the message, or concerns one connection. */
export function isReserved(name: string): boolean {
  const canonical = canonicalName(name);
  return isHopByHop(canonical) || notRemovable.has(canonical) || canonical === 'expect';
}

/** A request's fields as they go upstream: ours, then the client's end-to-end fields in their order and case. */
export function toUpstream(raw: RawHeaders, { fields, replaced }: OwnFields): string[] {
  return addEndToEnd([...fields], raw, (name) => replaced.has(name) || (name.includes('_') && (replaced.has(canonicalName(name)) || isReserved(name))));
}

/**
 * An answer's end-to-end fields in their order and case, then one of our own in place of any that has its name.
 *
 * @param own name, in lower case, and value; empty for none
 */
export function toClient(raw: RawHeaders, own: RawHeaders): string[] {
  const fields = addEndToEnd([], raw, (name) => name === own[0]);
  fields.push(...own);
  return fields;
}

/** @param isDropped gets names in lower case */
function addEndToEnd(fields: string[], raw: RawHeaders, isDropped: (name: string) => boolean): string[] {
  const named = new Set(valuesOf(raw, 'connection').join().toLowerCase().split(',').map((option) => option.trim()));
  for (let i = 0; i < raw.length; i += 2) {
    const sentName = raw[i] ?? '';
    const name = sentName.toLowerCase();
    if (!isHopByHop(name) && !(named.has(name) && !notRemovable.has(name)) && !isDropped(name)) fields.push(sentName, raw[i + 1] ?? '');
  }
  return fields;
}

function isHopByHop(name: string): boolean {
  return hopByHop.has(name) || name.startsWith(hopByHopPrefix);
}

/**
 * Whether an answer's body is in a transfer coding beside `chunked` (RFC 9112 section 6.1). We asked for none and cannot
 * undo it; without its name the body would be another one.
 */
export function hasOtherCoding(raw: RawHeaders): boolean {
  const codings = valuesOf(raw, 'transfer-encoding');
  return codings.length > 1 || codings.some((coding) => coding.trim().toLowerCase() !== 'chunked');
}
