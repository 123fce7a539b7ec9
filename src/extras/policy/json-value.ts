export type JsonValue = null | boolean | number | string | JsonArray | JsonObject;
export type JsonArray = readonly JsonValue[];
/** A Map: names such as `__proto__` have no special meaning in it. */
export type JsonObject = ReadonlyMap<string, JsonValue>;

/** Longest JSON pointer in a message, in characters. */
const maxPlaceLength = 200;

/** Whether a value is an object; not for arrays. */
export function isObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

/** Whether a value is an array. */
export function isArray(value: JsonValue | undefined): value is JsonArray {
  return Array.isArray(value);
}

/** One step of a JSON pointer (RFC 6901). */
export function pointerStep(name: string | number): string {
  return `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

/** A JSON pointer, cut to what is fit for a message. */
export function shortPlace(pointer: string): string {
  return pointer.length > maxPlaceLength ? `${pointer.slice(0, maxPlaceLength)}...` : pointer;
}
