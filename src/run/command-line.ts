import { parseArgs } from 'node:util';
import { type Failure, usageFailure } from './failure.ts';

/** A flag. Without `takes` it is a switch, which is given or not. */
export interface Flag {
  /** What its value is, as help shows it: `port`, `seconds`, `file`. */
  readonly takes?: string;
  /** The value where the flag is not given. */
  readonly default?: string;
  /** It can be given more than once. */
  readonly repeats?: true;
  /** One letter that means the same, after a single dash. */
  readonly short?: string;
  /** The heading in help that it is listed under. */
  readonly group?: string;
  readonly describe: string;
}

/** The value of a flag: true or false for a switch, a list if it repeats; undefined if it was not given and has no default. */
export type ValueOf<F extends Flag> = F extends { takes: string }
  ? F extends { repeats: true }
    ? readonly string[]
    : F extends { default: string }
      ? string
      : string | undefined
  : boolean;

export type Values<Flags extends Readonly<Record<string, Flag>>> = { readonly [Name in keyof Flags]: ValueOf<Flags[Name]> };

/** No flag has a longer name. Anything longer may be a key that slipped in among the arguments; it is not repeated. */
const maxFlagNameLength = 24;

/** Width of the help where stdout is no terminal, in columns. */
const defaultColumns = 80;

/** Narrower than this, the help's two columns leave no room for words. */
const minColumns = 40;

/**
 * Reads the arguments of a command. Unknown flags, flags given twice, and missing or superfluous values are refused.
 *
 * Node splits the arguments. yargs' parser would too, but `yargs/helpers`, the only declared way to it, also loads what
 * yargs draws its help with: 40 ms at each start, a third of what all else takes. The help is drawn by yargs, from the
 * same table.
 *
 * @param hint what to do about a mistake
 * @returns the flags' values, and the words between them
 * @throws {Failure} with exit code 2. The message names flags only and never repeats an argument: it could be a key.
 */
export function readArguments<const Flags extends Readonly<Record<string, Flag>>>(
  argv: readonly string[],
  flags: Flags,
  hint?: string,
): { values: Values<Flags>; words: readonly string[] } {
  const values = new Map<string, string | string[] | boolean | undefined>();
  for (const [name, flag] of Object.entries(flags)) values.set(name, unsetValue(flag));
  const words: string[] = [];
  const seen = new Set<string>();
  for (const token of tokensOf(argv, flags)) {
    if (token.kind === 'option-terminator') throw unknownFlag('--', hint);
    if (token.kind === 'positional') {
      words.push(token.value);
      continue;
    }
    const { name, value } = token;
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined) throw unknownFlag(token.rawName, hint);
    if (seen.has(name) && flag.repeats !== true) throw usageFailure(`--${name} was given twice`, hint);
    seen.add(name);
    if (flag.takes === undefined) {
      if (value !== undefined) throw usageFailure(`--${name} takes no value`, hint);
      values.set(name, true);
      continue;
    }
    const isNextFlag = !token.inlineValue && value?.startsWith('-') === true;
    if (value === undefined || value === '' || isNextFlag) throw usageFailure(`--${name} needs a value`, hint);
    values.set(name, flag.repeats === true ? [values.get(name) ?? [], value].flat().map(String) : value);
  }
  return { values: Object.fromEntries(values) as Values<Flags>, words };
}

/** The arguments one by one, whether they are right or wrong. */
function tokensOf(argv: readonly string[], flags: Readonly<Record<string, Flag>>): ReturnType<typeof parseArgs<{ strict: false; tokens: true }>>['tokens'] {
  const options = Object.entries(flags).map(([name, { takes, short }]) => {
    const type = takes === undefined ? ('boolean' as const) : ('string' as const);
    return [name, short === undefined ? { type } : { type, short }] as const;
  });
  return parseArgs({ args: [...argv], options: Object.fromEntries(options), strict: false, tokens: true }).tokens;
}

function unsetValue(flag: Flag): string | string[] | boolean | undefined {
  if (flag.takes === undefined) return false;
  return flag.repeats === true ? [] : flag.default;
}

function unknownFlag(given: string, hint: string | undefined): Failure {
  const isName = /^--[a-z-]+$/.test(given) && given.length <= maxFlagNameLength + '--'.length;
  return usageFailure(isName ? `unknown flag ${given}` : 'unknown flag', hint);
}

/**
 * The text of `--help`, drawn by yargs, as wide as the terminal.
 *
 * @param usage the command itself, with `$0` for the program
 * @param examples whole commands, with `$0` too
 */
export async function helpText(usage: string, flags: Readonly<Record<string, Flag>>, examples: readonly string[]): Promise<string> {
  const { default: yargs } = await import('yargs'); // not above: see `readArguments`
  const help = yargs([]).scriptName('responses-api-proxy').locale('en').help(false).version(false).usage(usage);
  // yargs can say `[string]` and `[number]`. It has one note of free text for each flag, `[deprecated: why]`: there we say
  // what the value is.
  help.updateStrings({ 'deprecated: %s': '%s' });
  for (const [name, { takes, group, describe, default: value }] of Object.entries(flags)) {
    help.option(name, {
      describe,
      ...(group === undefined ? {} : { group }),
      ...(takes === undefined ? {} : { deprecated: takes }),
      ...(value === undefined ? {} : { default: value, defaultDescription: value }),
    });
  }
  for (const command of examples) help.example(command, '');
  // Only here: once node has looked, it holds the terminal open. One that does not know its size says 0.
  return help.wrap(Math.max(minColumns, process.stdout.columns || defaultColumns)).getHelp();
}
