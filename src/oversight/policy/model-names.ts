/** OpenAI's longest, those of fine-tuned models, stay below 100 characters. */
const maxModelNameLength = 256;

/** Printable ASCII without spaces: a NUL or a space at the end could mean another model to someone who cuts it off. */
export function isModelName(text: string): boolean {
  return text.length <= maxModelNameLength && /^[\x21-\x7e]+$/.test(text);
}

/** Whether a name fits a pattern, in which `*` stands for any characters, or none. */
export function matchesModel(name: string, pattern: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return name === pattern;
  if (!name.startsWith(first) || !name.endsWith(last)) return false;
  let from = first.length;
  for (const part of rest) {
    const at = name.indexOf(part, from);
    if (at === -1) return false;
    from = at + part.length;
  }
  return from + last.length <= name.length;
}
