/** The tool types of the published API: we know what each of them reaches. A test compares them with the types of `openai`. */
export const knownToolTypes: ReadonlySet<string> = new Set([
  ...['function', 'custom', 'namespace', 'tool_search', 'programmatic_tool_calling'],
  ...['local_shell', 'shell', 'apply_patch', 'computer', 'computer_use', 'computer_use_preview'],
  ...['web_search', 'web_search_2025_08_26', 'web_search_preview', 'web_search_preview_2025_03_11'],
  ...['code_interpreter', 'image_generation', 'file_search', 'mcp'],
]);

/** In a policy: a web search in what OpenAI has found before, which calls no address. */
export const cachedSearch = 'web_search:cached';

/** In a policy, before a type that is not among them. */
const customPrefix = 'custom:';

/** How a policy may spell a tool type: as it is, or with the prefix. */
export function isSpelledToolType(text: string): boolean {
  return text === cachedSearch || /^(custom:)?[a-z0-9_]{1,64}$/.test(text);
}

/**
 * Reads one entry of a policy's `tools`. A type that we do not know is more often a slip than a novelty, and a slip would
 * grant nothing without a word; `custom:` before it says that it is meant.
 *
 * @returns the type, or `cachedSearch`; undefined for an unknown one
 */
export function readToolType(text: string): string | undefined {
  if (text.startsWith(customPrefix)) return text.slice(customPrefix.length);
  return text === cachedSearch || knownToolTypes.has(text) ? text : undefined;
}
