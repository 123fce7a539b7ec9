import { type ParseArgsConfig, parseArgs } from 'node:util';
import { type Failure, usageFailure } from './failure.ts';

/** A flag. */
export interface Flag {
  /** What its value is, as help shows it: `port`, `seconds`, `file`. Without it, the flag is a switch. */
  readonly takes?: string;
  readonly default?: string;
  readonly repeats?: true;
  /** One letter that means the same, after a single dash. */
  readonly short?: string;
  /** Its heading in help. */
  readonly group?: string;
  readonly describe: string;
}

/** The value of a flag: true or false for a switch, a list if it repeats; undefined if it was not given and has no default. */
type ValueOf<F extends Flag> = F extends { takes: string }
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
  const options: NonNullable<ParseArgsConfig['options']> = {};
  for (const [name, { takes, repeats = false, short, default: value }] of Object.entries(flags)) {
    const unset = takes === undefined ? false : repeats ? [] : value;
    const type = takes === undefined ? 'boolean' : 'string';
    options[name] = { type, multiple: repeats, ...(short && { short }), ...(unset !== undefined && { default: unset }) };
  }
  // Not strict: its messages would repeat the arguments.
  const { values, positionals, tokens } = parseArgs({ args: [...argv], options, strict: false, tokens: true });
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind === 'positional') continue;
    if (token.kind === 'option-terminator') throw unknownFlag('--', hint, flags);
    const { name, value } = token;
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined) throw unknownFlag(token.rawName, hint, flags);
    if (seen.has(name) && flag.repeats !== true) throw usageFailure(`--${name} was given twice`, hint);
    seen.add(name);
    if (flag.takes === undefined && value !== undefined) throw usageFailure(`--${name} takes no value`, hint);
    const isNextFlag = !token.inlineValue && value?.startsWith('-') === true;
    if (flag.takes !== undefined && (!value || isNextFlag)) throw usageFailure(`--${name} needs a value`, hint);
  }
  return { values: values as Values<Flags>, words: positionals };
}

function unknownFlag(given: string, hint: string | undefined, flags: object): Failure {
  const isName = /^--[a-z-]+$/.test(given) && given.length <= maxFlagNameLength + '--'.length;
  if (!isName) return usageFailure('unknown flag', hint);
  const beginningAt = (length: number): string[] => Object.keys(flags).filter((name) => `--${name}`.startsWith(given.slice(0, length)));
  let alike: string[] = [];
  for (let length = given.length; alike.length === 0 && length > '--ab'.length; length--) alike = beginningAt(length);
  return usageFailure(`unknown flag ${given}`, alike.length === 0 ? hint : `did you mean --${alike.join(' or --')}?`);
}

/** A command, broken into lines of so many columns as sh takes it. Words stay whole. */
export function broken(command: string, columns: number): string {
  const end = ' \\\n';
  return command.replace(new RegExp(`(.{1,${columns - 2}})(?: |$)`, 'g'), `$1${end}`).slice(0, -end.length);
}

/**
 * The text of `--help`, drawn by yargs, as wide as the terminal.
 *
 * @param usage what stands first, with `$0` for the program
 * @param examples whole commands
 * @param notes what stands last
 */
export async function helpText(usage: string, flags: Readonly<Record<string, Flag>>, examples: readonly string[], notes = ''): Promise<string> {
  const { default: yargs } = await import('yargs'); // not above: see `readArguments`
  const help = yargs([]).scriptName('responses-api-proxy').locale('en').help(false).version(false).usage(usage);
  // yargs can say `[string]` and `[number]`. It has one note of free text for each flag, `[deprecated: why]`: there we say
  // what the value is.
  help.updateStrings({ 'deprecated: %s': '%s' });
  for (const [name, { takes, group, describe, default: value }] of Object.entries(flags)) {
    help.option(name, { describe, group, deprecated: takes, default: value, defaultDescription: value });
  }
  // Only here: once node has looked, it holds the terminal open. One that does not know its size says 0.
  const columns = Math.max(minColumns, process.stdout.columns || defaultColumns);
  // yargs leaves two columns free on either side.
  for (const command of examples) help.example(broken(command, columns - 4), '');
  return help.epilogue(notes).wrap(columns).getHelp();
}
