import type { FieldRule } from './field-rules.ts';

/** The names that some rule reads, by their folded form. */
export type NamesRead = Map<string, { name: string; rule: FieldRule }>;

/** A name as the most lenient reader sees it: without case and punctuation. */
export function fold(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '');
}

/** The API has no other names outside of schemas and maps, and readers differ in what they take such letters for. */
export function isAscii(name: string): boolean {
  return /^[\x00-\x7f]*$/.test(name);
}

/** Adds names that a rule reads, in the form in which `fold` compares them. */
export function addNamesRead(names: NamesRead, rule: FieldRule, ...all: string[]): void {
  for (const name of all) names.set(fold(name), { name, rule });
}
