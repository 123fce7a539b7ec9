/** The tool types of the published API: we know what each of them reaches. A test compares them with the types of `openai`. */
export const knownToolTypes: ReadonlySet<string> = new Set([
  ...['function', 'custom', 'namespace', 'tool_search', 'programmatic_tool_calling'],
  ...['local_shell', 'shell', 'apply_patch', 'computer', 'computer_use', 'computer_use_preview'],
  ...['web_search', 'web_search_2025_08_26', 'web_search_preview', 'web_search_preview_2025_03_11'],
  ...['code_interpreter', 'image_generation', 'file_search', 'mcp'],
]);

/** In a policy, before a type that is not among them. */
const customPrefix = 'custom:';

/** A tool type in a policy's `tools`, or the type that was probably meant. */
export type ToolTypeReading = { kind: 'type'; type: string } | { kind: 'unknown'; nearest: string };

/** A tool type as a request names it. The known ones are all like this. */
export function isToolType(text: string): boolean {
  return /^[a-z0-9_]{1,64}$/.test(text);
}

/** How a policy may spell a tool type: as it is, or with the prefix. */
export function isSpelledToolType(text: string): boolean {
  return isToolType(text.startsWith(customPrefix) ? text.slice(customPrefix.length) : text);
}

/**
 * Reads one entry of a policy's `tools`. A type that we do not know is more often a slip than a novelty, and a slip would
 * grant nothing without a word; `custom:` before it says that it is meant.
 */
export function readToolType(text: string): ToolTypeReading {
  if (text.startsWith(customPrefix)) return { kind: 'type', type: text.slice(customPrefix.length) };
  return knownToolTypes.has(text) ? { kind: 'type', type: text } : { kind: 'unknown', nearest: nearestToolType(text) };
}

function nearestToolType(text: string): string {
  const ranked = [...knownToolTypes].map((type) => ({ type, distance: editDistance(text, type) }));
  return ranked.reduce((best, other) => (other.distance < best.distance ? other : best)).type;
}

/** Levenshtein's: how many characters must be added, removed or replaced. */
function editDistance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [i, character] of [...one].entries()) {
    const next = [i + 1];
    for (let j = 0; j < other.length; j++) {
      const replaced = (row[j] ?? 0) + (character === other[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[other.length] ?? 0;
}
