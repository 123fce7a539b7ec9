import { isGiven } from './field-rules.ts';
import type { Findings } from './findings.ts';
import { type JsonObject, type JsonValue, isArray, isObject } from './json-value.ts';

/** What the API finds among its own stored objects, wherever it stands in a request. */
export const storedIds: ReadonlySet<string> = new Set(['file_id', 'file_ids', 'container_id', 'skill_id', 'vector_store_ids', 'comparison_response_id']);

/** Other names that this rule reads in the walk. */
export const storedNames = ['container', 'id', 'encrypted_content', 'ttl', 'voice'] as const;

/** The lifetime of a cached prompt that OpenAI gives unasked. */
const defaultCacheLifetime = '30m';

/** Members of an input item that are no content of it: an item with an id and no more is a reference to a stored one. */
const labels: ReadonlySet<string> = new Set(['id', 'type', 'status', 'role', 'phase', 'summary']);

/**
 * These items are looked up by their id unless they bring this along. OpenAI tells so for reasoning ("Item with id 'rs_...'
 * not found", also of items with `content` in plain text; `encrypted_content` it verifies, and answers 400 to a dummy).
 * An item without a type is a reference or a message.
 */
const contentOf: ReadonlyMap<JsonValue | undefined, string> = new Map<JsonValue | undefined, string>([
  ['reasoning', 'encrypted_content'],
  ['compaction', 'encrypted_content'],
  ['image_generation_call', 'result'],
  ['file_search_call', 'results'],
  [undefined, 'content'],
  [null, 'content'],
]);

/** What a request says of storing: both endpoints store what does not say otherwise, chat completions in new accounts. */
export function judgeStorage(body: JsonObject, findings: Findings): void {
  if (body.get('store') !== false) findings.add('stored_state', 'an answer that may be stored (set "store": false)', 'store');
  const retention = body.get('prompt_cache_retention');
  if (isGiven(retention) && retention !== 'in_memory') findings.add('stored_state', 'a prompt cache that outlives the memory', 'prompt_cache_retention');
}

/** Judges one member that has a value, wherever it stands. */
export function judgeStoredMember(name: string, value: JsonValue, findings: Findings): void {
  const why = storedIn(name, value);
  if (why !== undefined) findings.add('stored_state', why);
}

function storedIn(name: string, value: JsonValue): string | undefined {
  switch (name) {
    case 'container':
      return typeof value === 'string' ? 'a container that exists already' : undefined;
    case 'audio':
      // Chat: what the assistant said aloud in an earlier answer.
      return isObject(value) && isGiven(value.get('id')) ? 'a stored audio answer' : undefined;
    case 'voice':
      // Custom voices are objects with an id, such as voice_1234; all that OpenAI has for everyone are plain words.
      return typeof value === 'string' && /^[a-z]+$/.test(value) ? undefined : 'a custom voice';
    case 'ttl':
      return value === defaultCacheLifetime ? undefined : `a prompt cache of more than ${defaultCacheLifetime}`;
    default:
      return storedIds.has(name) ? name : undefined;
  }
}

/** Whether an input item stands for one that the API has stored. */
export function isReference(item: JsonObject): boolean {
  if (!isGiven(item.get('id'))) return false;
  const type = item.get('type');
  const content = contentOf.get(type);
  if (content !== undefined) return !hasContent(item.get(content));
  return ![...item.keys()].some((name) => !labels.has(name) && isGiven(item.get(name)));
}

function hasContent(value: JsonValue | undefined): boolean {
  return isArray(value) ? value.length > 0 : typeof value === 'string' && value !== '';
}
