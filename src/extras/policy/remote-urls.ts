import type { Findings } from './findings.ts';
import { type JsonObject, type JsonValue, isArray, isObject } from './json-value.ts';

/** Ways out of OpenAI's servers, beside the URLs. */
export const waysOut: ReadonlySet<string> = new Set(['connector_id', 'tunnel_id', 'network_policy']);

/** Base64 in the API; some compatible servers also take a URL there. Compared without case and punctuation. */
const inlineData: ReadonlySet<string> = new Set(['data', 'filedata', 'file', 'image', 'audio', 'video']);

/** Enough of a text to see whether it begins like a URL. */
const urlBeginning = 64;

/** Where a value stands, as far as that decides what it may say. */
export type Place =
  | 'plain'
  /** A list of input items, or one of them. */
  | 'items'
  /** In a field that the policy grants, of which we know nothing else. */
  | 'granted'
  // Below: where the API itself puts addresses that the model has seen. It does not call them again.
  | 'annotations'
  | 'citation'
  | 'search action'
  | 'search sources';

/**
 * Where a member's value stands. A thing is a citation only where the API has citations: in the annotations of a text that
 * the model wrote, and in a web search that it made. What calls itself a citation anywhere else is judged like the rest.
 */
export function placeOf(name: string, object: JsonObject, place: Place): Place {
  switch (name) {
    case 'annotations':
      return object.get('type') === 'output_text' || object.get('role') === 'assistant' ? 'annotations' : inherited(place);
    case 'url_citation':
      return place === 'annotations' && object.get('type') === 'url_citation' ? 'citation' : inherited(place);
    case 'action':
      return place === 'items' && object.get('type') === 'web_search_call' ? 'search action' : inherited(place);
    case 'sources':
      return place === 'search action' ? 'search sources' : inherited(place);
    default:
      return inherited(place);
  }
}

function inherited(place: Place): Place {
  return place === 'granted' ? 'granted' : 'plain';
}

/** Judges one member that has a value. @param folded its name without case and punctuation */
export function judgeAddress(name: string, folded: string, value: JsonValue, object: JsonObject, place: Place, findings: Findings): void {
  if (waysOut.has(name)) {
    const isClosed = name === 'network_policy' && isObject(value) && value.get('type') === 'disabled';
    if (!isClosed) findings.add('remote_urls', name);
  } else if (isUrlName(folded)) {
    if (name !== 'url' || !cites(object, place)) judgeUrl(value, findings);
  } else if (typeof value === 'string') {
    if (inlineData.has(folded) && isUrl(value)) findings.add('remote_urls', 'a URL in the place of data');
    if (place === 'granted') judgeGrantedText(value, findings);
  }
}

/** In a field that we do not know, an address can have any name. */
export function judgeGrantedText(text: string, findings: Findings): void {
  if (/^[\x00-\x20]*([a-z][a-z0-9+.-]*:)?\/\//i.test(text.slice(0, urlBeginning))) findings.add('remote_urls', 'a URL in a field of its own');
}

function cites(object: JsonObject, place: Place): boolean {
  if (place === 'annotations') return object.get('type') === 'url_citation';
  return place === 'citation' || place === 'search action' || place === 'search sources';
}

/** A URL, several, or an object that holds one under a name of its own. Only what brings its data with it passes. */
function judgeUrl(value: JsonValue, findings: Findings): void {
  const isClosed = (url: JsonValue): boolean => isObject(url) || (typeof url === 'string' && /^data:/i.test(url));
  if (!(isArray(value) ? value : [value]).every(isClosed)) findings.add('remote_urls', 'a URL that is no data: URL');
}

function isUrlName(folded: string): boolean {
  return folded.endsWith('url') || folded.endsWith('uri') || folded.endsWith('urls') || folded.endsWith('uris');
}

function isUrl(text: string): boolean {
  return /^[\x00-\x20]*(?!data:)[a-z][a-z0-9+.-]*:/i.test(text.slice(0, urlBeginning));
}
