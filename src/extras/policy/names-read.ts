import type { FieldRule } from './field-rules.ts';

/** The names that some rule reads, by their folded form. */
export type NamesRead = Map<string, { name: string; rule: FieldRule }>;

/** The longest name that a rule reads has 22 characters; readers that drop what they do not like get no further than this. */
const maxFoldedLength = 32;

/**
 * Most names beyond ASCII that are folded in one request. The API has none outside of schemas and maps, which are not
 * judged, and Unicode's compatibility form makes a name up to 18 times longer: 9 MB of such names took seconds.
 */
export const maxFoldedNames = 100;

/** Sees names as the most lenient reader would: in Unicode's compatibility form, without case and punctuation. One per request. */
export class NameFolder {
  #folded = 0;

  /** @returns the folded name; undefined where the request has more names beyond ASCII than are folded */
  fold(name: string): string | undefined {
    // Nearly all names are like this.
    if (/^[a-z0-9_]*$/.test(name)) return name.includes('_') ? name.replaceAll('_', '') : name;
    if (name.length > maxFoldedLength) return name.toLowerCase();
    if (/^[\x00-\x7f]*$/.test(name)) return name.toLowerCase().replace(/[^a-z0-9]/g, '');
    if (++this.#folded > maxFoldedNames) return undefined;
    return name.normalize('NFKC').toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');
  }
}

/** Adds names that a rule reads, in the form in which `fold` compares them. */
export function addNamesRead(names: NamesRead, rule: FieldRule, ...all: string[]): void {
  for (const name of all) names.set(name.replaceAll('_', ''), { name, rule });
}
