import type { Findings } from './findings.ts';
import { type JsonObject, type JsonValue, isObject } from './json-value.ts';

/** Ways out of OpenAI's servers, beside the URLs. */
export const waysOut: ReadonlySet<string> = new Set(['connector_id', 'tunnel_id', 'network_policy']);

/** Base64 in the API; some compatible servers also take a URL there. Compared without case and punctuation. */
const inlineData: ReadonlySet<string> = new Set(['data', 'filedata', 'file', 'image', 'audio', 'video', 'result', 'encryptedcontent']);

/** No registered scheme is longer, in characters, with its colon and slashes. */
const longestScheme = 64;

/** What is read as words, by the model or by a program, so that it may begin with an address. In other texts an address is one. */
const words: ReadonlySet<string> = new Set([
  ...['text', 'content', 'output', 'input', 'arguments', 'instructions', 'description', 'server_description', 'definition', 'title', 'transcript'],
  ...['query', 'queries', 'pattern', 'code', 'command', 'commands', 'diff', 'logs', 'stdout', 'stderr'],
  ...['refusal', 'reason', 'error', 'message', 'revised_prompt', 'detailed_explanation'],
]);

/** The parts whose purpose is to bring something in: no text in them is read as words. */
const media: ReadonlySet<JsonValue | undefined> = new Set(['input_image', 'input_file', 'input_audio', 'image_url', 'file', 'computer_screenshot']);

/** Where a value stands, as far as that decides what it may say. */
export type Place =
  /** A text that is no address, whatever it says. */
  | 'words'
  /** Anything that is in an item, a message or a tool. */
  | 'inside'
  /** A list of input items, or one of them. */
  | 'items'
  /** In a field that the policy grants, or in the place of a URL: no text is taken for words. */
  | 'unknown'
  /** A URL, several, or an object that holds one under a name of its own. */
  | 'url'
  | 'data'
  /** What an earlier image cost, and by which model: it asks for none. */
  | 'report'
  // Below: where the API itself puts addresses that the model has seen. It does not call them again.
  | 'annotations'
  | 'citation'
  | 'search action'
  | 'search sources';

/**
 * Where a member's value stands. A thing is a citation only where the API has citations: in the annotations of a text that
 * the model wrote, and in a web search that it made. What calls itself a citation anywhere else is judged like the rest.
 *
 * @param folded its name without case and punctuation
 */
export function placeOf(name: string, folded: string, object: JsonObject, place: Place): Place {
  if (name === 'url' && cites(object, place)) return 'words';
  if (/ur[li]s?$/.test(folded)) return 'url';
  if (name === 'result' && object.get('type') === 'program_output') return 'words';
  if (inlineData.has(folded)) return 'data';
  const type = object.get('type');
  if (place === 'unknown' || place === 'url' || media.has(type)) return 'unknown';
  if (name === 'svg_usage' && place === 'items' && type === 'image_generation_call') return 'report';
  if (name === 'annotations' && (type === 'output_text' || object.get('role') === 'assistant')) return 'annotations';
  if (name === 'url_citation' && place === 'annotations' && type === 'url_citation') return 'citation';
  if (name === 'action' && place === 'items' && type === 'web_search_call') return 'search action';
  if (name === 'sources' && place === 'search action') return 'search sources';
  return words.has(name) ? 'words' : 'inside';
}

/** Judges one member that has a value and is named like a way out. */
export function judgeWayOut(name: string, value: JsonValue, findings: Findings): void {
  const isClosed = name === 'network_policy' && isObject(value) && value.get('type') === 'disabled';
  if (waysOut.has(name) && !isClosed) findings.add('remote_urls', name);
}

/** Judges what is neither an object nor a list, and not null. */
export function judgeAddress(value: JsonValue, place: Place, findings: Findings): void {
  if (place === 'url') {
    if (typeof value !== 'string' || !/^data:/i.test(value)) findings.add('remote_urls', 'a URL that is no data: URL');
  } else if (typeof value === 'string' && place !== 'words' && !/^data:/i.test(value) && isAddress(value, place === 'data')) {
    findings.add('remote_urls', 'a URL in a place of its own');
  }
}

/**
 * Whether a text would be called as an address by some reader: after what URL parsers (and Python's `strip`) trim, and without
 * the tabs and line breaks that they leave out; with a scheme and slashes of either kind, or slashes alone, or with one of
 * the schemes that need no slashes (WHATWG URL, section 4.2).
 *
 * @param isData where only base64 belongs, which may begin with slashes, but has neither a colon nor a dot
 */
function isAddress(text: string, isData: boolean): boolean {
  const trimmed = text.replace(/[\t\n\r]+/g, '').replace(/^[\s\x00-\x20\x85]+/, '');
  const beginning = trimmed.slice(0, longestScheme);
  if (isData) return /^[a-z][a-z0-9+.-]*:/i.test(beginning) || (/^[\\/]{2}/.test(beginning) && !/^[a-z0-9+/=_-]*$/i.test(trimmed));
  return /^((https?|wss?|ftp|file):|([a-z][a-z0-9+.-]*:)?[\\/]{2})/i.test(beginning);
}

function cites(object: JsonObject, place: Place): boolean {
  if (place === 'annotations') return object.get('type') === 'url_citation';
  return place === 'citation' || place === 'search action' || place === 'search sources';
}
