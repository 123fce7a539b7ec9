/**
 * Header fields as node:http gives them: names and values in turn, with order, case and duplicates kept. Not
 * `req.headers`: node builds that object when it is first asked for, and it joins or drops duplicates.
 */
export type RawHeaders = readonly string[];

/**
 * The values of a field, in order.
 *
 * @param name in lower case
 */
export function valuesOf(raw: RawHeaders, name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < raw.length; i += 2) if (isNamed(raw[i], name)) values.push(raw[i + 1] ?? '');
  return values;
}

/** @param name in lower case */
export function hasField(raw: RawHeaders, name: string): boolean {
  for (let i = 0; i < raw.length; i += 2) if (isNamed(raw[i], name)) return true;
  return false;
}

/** The Content-Length in bytes; undefined where there is none. The gate and undici have seen to it that it is a number. */
export function contentLength(raw: RawHeaders): number | undefined {
  const [length] = valuesOf(raw, 'content-length');
  return length === undefined ? undefined : Number(length);
}

/** Comparing lengths first saves most of the conversions to lower case. */
function isNamed(sentName: string | undefined, name: string): boolean {
  return sentName?.length === name.length && sentName.toLowerCase() === name;
}
