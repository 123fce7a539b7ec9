import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import type YargsParser from 'yargs-parser';
import { exitCodes } from './exit-codes.ts';
import { Failure } from './failure.ts';

/** A flag, in the words of yargs, which draws the help from the same object. */
export interface Flag {
  readonly string?: true;
  readonly boolean?: true;
  readonly default?: string;
  /** It can be given more than once. */
  readonly array?: true;
}

/** What was given: a text or texts for a `string`, true for a `boolean`. */
export type Values<Name extends string> = Partial<Record<Name, string | string[] | boolean>>;

/** No flag has a longer name; what is longer may be a key that got among the arguments, and is not repeated. */
const maxFlagNameLength = 24;

/**
 * Reads the arguments of a command. Refused is what yargs lets pass, or tells by its value: unknown flags, flags given
 * twice, missing or superfluous values.
 *
 * yargs' own parser is taken alone: what yargs draws its help with takes 45 ms and 8 MB to load, at every start.
 *
 * @param hint for its user, where something is wrong
 * @returns the flags' values, and the plain words between them
 * @throws {Failure} with exit code 2. The message never holds an argument that is not a flag's name: it could be a key.
 */
export async function readArguments<Name extends string>(
  argv: readonly string[],
  flags: Readonly<Record<Name, Flag>>,
  hint: string,
): Promise<{ values: Values<Name>; words: readonly string[] }> {
  checkShape(argv, flags, hint);
  const file = createRequire(import.meta.resolve('yargs')).resolve('yargs-parser');
  const { default: parser } = (await import(pathToFileURL(file).href)) as { default: typeof YargsParser };
  const all = Object.entries<Flag>(flags);
  const { _: words, ...values } = parser([...argv], {
    boolean: all.flatMap(([name, flag]) => (flag.boolean === true ? [name] : [])),
    string: ['_', ...all.flatMap(([name, flag]) => (flag.string === true ? [name] : []))],
    default: Object.fromEntries(all.flatMap(([name, flag]) => (flag.default === undefined ? [] : [[name, flag.default]]))),
    configuration: {
      'camel-case-expansion': false,
      'dot-notation': false,
      'boolean-negation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    },
  });
  return { values: values as Values<Name>, words: words.map(String) };
}

/**
 * The text of `--help`.
 *
 * @param usage the line that a command is given by, with `$0` for the program
 * @param examples commands, each with the theme that it is an example of
 */
export async function helpText(usage: string, flags: Readonly<Record<string, Flag>>, examples: ReadonlyArray<[command: string, theme: string]> = []): Promise<string> {
  const { default: yargs } = await import('yargs'); // not above: see `readArguments`
  const help = yargs([]).scriptName('responses-api-proxy').locale('en').help(false).version(false).usage(usage).options({ ...flags }).wrap(110);
  for (const example of examples) help.example(...example);
  return help.getHelp();
}

/** Wrong arguments. */
export function misuse(message: string, hint: string): Failure {
  return new Failure(message, { hint, exitCode: exitCodes.usage });
}

function checkShape(argv: readonly string[], flags: Readonly<Record<string, Flag>>, hint: string): void {
  const seen = new Set<string>();
  const rest = [...argv];
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (!argument.startsWith('-')) continue;
    const [, name = '', value] = /^--([a-z-]+)(=.*)?$/s.exec(argument) ?? [];
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined) throw misuse(name === '' || name.length > maxFlagNameLength ? 'unknown flag' : `unknown flag --${name}`, hint);
    if (seen.has(name) && flag.array !== true) throw misuse(`--${name} was given twice`, hint);
    seen.add(name);
    if (flag.boolean === true) {
      if (value !== undefined) throw misuse(`--${name} takes no value`, hint);
    } else if (value === undefined || value === '=') {
      const next = value === '=' ? undefined : rest.shift();
      if (next === undefined || next === '' || next.startsWith('-')) throw misuse(`--${name} needs a value`, hint);
    }
  }
}
