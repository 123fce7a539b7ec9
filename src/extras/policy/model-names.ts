/** OpenAI's longest names, those of fine-tuned models, have fewer than 100 characters. */
const maxModelNameLength = 256;

/** Printable ASCII without spaces: an upstream that cuts a name at a NUL or a space would read another model. */
export function isModelName(text: string): boolean {
  return text.length <= maxModelNameLength && /^[\x21-\x7e]+$/.test(text);
}

/** Whether a name matches a pattern. `*` stands for any number of characters. */
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
