import { randomBytes } from 'node:crypto';

import { isObject } from './stand-in-steps.ts';
import type { Json } from './stand-in-steps.ts';

const charactersPerToken = 4;
// What the real API caches: prompts from 1,024 tokens on, in steps of 128.
const leastCachedTokens = 1024;
const cachedTokensStep = 128;

export function tokensIn(text: string): number {
  return Math.ceil(text.length / charactersPerToken);
}

/** How many of a prompt's tokens came out of a cache. */
export function cachedTokensOf(promptTokens: number): number {
  return promptTokens < leastCachedTokens ? 0 : Math.floor(promptTokens / 2 / cachedTokensStep) * cachedTokensStep;
}

export function idOf(prefix: string): string {
  return `${prefix}_${randomBytes(24).toString('hex')}`;
}

/** The real API pads its deltas so that their lengths tell nothing. */
export function padding(): string {
  return randomBytes(12).toString('base64url').slice(0, 5 + Math.floor(Math.random() * 10));
}

export function words(text: string): string[] {
  return text.match(/\s*\S+\s*$|\s*\S+/g) ?? [];
}

export function pieces(text: string, length: number): string[] {
  return Array.from({ length: Math.ceil(text.length / length) }, (_, index) => text.slice(index * length, (index + 1) * length));
}

/** A value that a JSON schema accepts, as far as its type and its required properties go. */
export function sampleOf(schema: Json | undefined): Json {
  if (!isObject(schema)) return {};
  if (Array.isArray(schema['enum'])) return (schema['enum'] as readonly Json[])[0] ?? null;
  const properties = isObject(schema['properties']) ? schema['properties'] : {};
  const required = Array.isArray(schema['required']) ? schema['required'] as readonly Json[] : [];
  switch (Array.isArray(schema['type']) ? (schema['type'] as readonly Json[])[0] : schema['type']) {
    case 'string': return 'stand-in';
    case 'integer':
    case 'number': return 1;
    case 'boolean': return true;
    case 'null': return null;
    case 'array': return [];
    default: return Object.fromEntries(required.map((name) => [String(name), sampleOf(properties[String(name)])]));
  }
}
