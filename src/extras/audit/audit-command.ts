import type { Writable } from 'node:stream';
import { type Flag, helpText, readArguments } from '../../run/command-line.ts';
import { Failure, exitCodes, usageFailure } from '../../run/failure.ts';
import { escaped, quote } from '../../run/log.ts';
import { heading, newestFirst, tableRow } from './audit-list.ts';
import { summarise, summaryLines, summaryTables } from './audit-summary.ts';
import { type Fault, type FileVerdict, checkFile, inChainOrder, nameOf, told } from './audit-verify.ts';

/** How many records `list` shows, where neither a number nor a time was given. */
const defaultLimit = 20;

/** How much output is gathered before it is written, in characters. */
const batchLength = 64 * 1024;

const usageHint = 'see responses-api-proxy audit --help';

/** What each takes, and how it ends, for cron. */
const commands = {
  list: { takes: 'FILE', exits: '0: read to its end. 1: the file cannot be read. 2: wrong arguments.' },
  summary: { takes: 'FILE...', exits: '0: added up; what verify objects to is told on stderr. 1: a file cannot be read, or is there twice. 2: wrong arguments.' },
  verify: { takes: 'FILE...', exits: '0: whole. 1: a line was changed, removed or added, its write did not finish, records are lost, a file between two is missing, or one cannot be read. 2: wrong arguments.' },
} as const;

type CommandName = keyof typeof commands;

const commandNames = Object.keys(commands) as readonly CommandName[];

const flags = {
  limit: { takes: 'number', of: ['list'], describe: `show so many (default: ${defaultLimit}, or all with --since)` },
  since: { takes: 'time', of: ['list', 'summary'], describe: 'none before this: 2026-01-31, 2026-01-31T12:00Z, or 90m, 24h, 7d ago' },
  contains: { takes: 'hash', of: ['verify'], describe: 'a record must have this hash, known from earlier' },
  json: { of: commandNames, describe: 'JSON lines' },
  help: { short: 'h', of: commandNames, describe: 'show this (also -h)' },
} as const satisfies Record<string, Flag & { of: readonly CommandName[] }>;

/** What a command line asks for. */
type AuditOptions = Exclude<Awaited<ReturnType<typeof parse>>, string>;

/** What the command needs of the program around it. */
export interface AuditCommandContext {
  readonly stdout: Writable;
  /** Tells the user something beside the output. */
  readonly say: (message: string) => void;
  /** A user's name; undefined where there is no such account, or nothing to ask. */
  readonly nameOf?: ((uid: number) => string | undefined) | undefined;
}

/**
 * `responses-api-proxy audit list|summary|verify FILE`: needs no key and no daemon, and reads nothing but the files.
 *
 * @param argv what follows `audit`
 * @returns 0, or 1 when the chain is broken
 * @throws {Failure} with exit code 2 for wrong arguments, 1 when the file cannot be read
 */
export async function auditCommand(argv: readonly string[], context: AuditCommandContext): Promise<number> {
  const parsed = await parse(argv);
  const output = new Output(context.stdout);
  if (typeof parsed === 'string') {
    await output.print(parsed);
    await output.flush();
    return exitCodes.stopped;
  }
  const notes: string[] = [];
  const exitCode = await run(parsed, output, notes, context);
  await output.flush();
  notes.forEach(context.say);
  return exitCode;
}

async function run(options: AuditOptions, output: Output, notes: string[], { nameOf = () => undefined, say }: AuditCommandContext): Promise<number> {
  const { command, file, files, json, since } = options;
  switch (command) {
    case 'list':
      if (!json) await output.print(heading());
      for (const record of newestFirst(file, options, notes)) {
        if (!(await output.print(json ? escaped(JSON.stringify(record)) : tableRow(record)))) break;
      }
      return exitCodes.stopped;
    case 'summary': {
      const summary = await summarise(files, { since, nameOf }, notes);
      for (const line of json ? summaryLines(summary) : [summaryTables(summary)]) await output.print(line);
      return exitCodes.stopped;
    }
    case 'verify':
      return verify(options, output, say);
  }
}

/** Checks a rotated set, in whatever order it is given. */
async function verify({ files: paths, contains, json }: AuditOptions, output: Output, say: AuditCommandContext['say']): Promise<number> {
  let isFound = contains === undefined;
  const checked: FileVerdict[] = [];
  for (const path of paths) checked.push(await checkFile(path, (_, hash) => (isFound ||= hash === contains)));
  const files = inChainOrder(checked);
  const last = files.at(-1);
  if (!isFound) last?.faults.push({ line: last.lines, problem: 'is the last one, and no record has the hash that was asked for: records are missing, or all were made anew' });
  for (const file of files) {
    const { path, faults, records, continues, lastHash, tornLines, uncleanEnds, ledger } = file;
    if (json) await output.print(JSON.stringify({ file: path, ok: faults.length === 0, records, continues, lastHash, tornLines, uncleanEnds, running: ledger.open.size, charged: ledger.tokens, faults }));
    else if (faults.length === 0) await output.print(praise(file));
  }
  const failures = files.flatMap((file) => file.faults.map((fault) => new Failure(told(file, fault), { hint: hintFor(fault) })));
  const failure = failures.pop();
  if (failure === undefined) return exitCodes.stopped;
  if (json) return exitCodes.failed;
  await output.flush();
  for (const { message } of failures) say(message);
  throw failure;
}

function hintFor({ line, problem }: Fault): string {
  return line === 1 && problem === 'is no record' ? 'is it the file of --audit-log?' : 'what stands before it is as it was written';
}

function praise(file: FileVerdict): string {
  const { records, continues, lastHash, tornLines, uncleanEnds, ledger } = file;
  const facts = [`${nameOf(file)}: ${records} records, each as it was written`];
  if (continues !== undefined) facts.push(`the first goes on after the one with hash ${continues}, in another file`);
  if (lastHash !== undefined) facts.push(`the last has hash ${lastHash}; ${ledger.tokens} tokens are charged up to it`);
  if (ledger.open.size > 0) facts.push(`${ledger.open.size} admitted requests have not ended in it`);
  if (uncleanEnds.length > 0) facts.push(`the daemon had not stopped before it started in line ${uncleanEnds.join(', ')}`);
  if (tornLines > 0) facts.push(`${tornLines} torn: their writes did not finish`);
  return facts.join('\n');
}

/** @returns the options, or the text that was asked for instead */
async function parse(argv: readonly string[]) {
  const [first, ...rest] = argv;
  const command = commandNames.find((name) => name === first);
  const isHelp = first !== undefined && ['--help', '-h', 'help'].includes(first);
  if (command === undefined && !isHelp) throw misuse(`audit takes one of ${commandNames.join(', ')}`);
  const own = Object.fromEntries(Object.entries<Flag & { of: readonly CommandName[] }>(flags).filter(([name, { of }]) => (command === undefined ? name === 'help' : of.includes(command))));
  const { values, words } = readArguments(command === undefined ? argv : rest, own, usageHint);
  if (command === undefined || values['help'] === true) {
    const told = command === undefined ? commandNames : [command];
    return helpText(told.map((name) => `$0 audit ${name} ${commands[name].takes} [flags]\n  exits with ${commands[name].exits}`).join('\n'), own, []);
  }
  const [file] = words;
  if (file === undefined || words.includes('') || (command === 'list' && words.length > 1)) {
    throw misuse(command === 'list' ? 'audit list takes one file' : `audit ${command} takes files, or - for standard input`);
  }
  if (new Set(words).size < words.length) throw misuse(`audit ${command} was given the same file twice`);
  const since = values['since'] === undefined ? undefined : timeOf(String(values['since']), Date.now());
  return {
    command,
    file,
    files: words,
    limit: values['limit'] === undefined ? (since === undefined ? defaultLimit : Infinity) : limitOf(String(values['limit'])),
    since,
    contains: values['contains'] === undefined ? undefined : hashOf(String(values['contains'])),
    json: values['json'] === true,
  };
}

function limitOf(given: string): number {
  const limit = /^\d{1,9}$/.test(given) ? Number(given) : 0;
  if (limit > 0) return limit;
  throw misuse(`--limit takes a number from 1 to 999999999, not ${quote(given)}`);
}

/** A time in the form that records have: in UTC, with milliseconds. */
function timeOf(given: string, now: number): string {
  const [, ago, unit] = /^(\d{1,6})([smhd])$/.exec(given) ?? [];
  const units = new Map([['s', 1_000], ['m', 60_000], ['h', 3_600_000], ['d', 86_400_000]]);
  const [, day, clock = '00:00'] = /^(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)Z?)?$/.exec(given) ?? [];
  const time = ago === undefined ? Date.parse(`${day}T${clock}Z`) : now - Number(ago) * (units.get(unit ?? '') ?? Number.NaN);
  // Date takes 31 February for 3 March.
  const exists = day === undefined || (!Number.isNaN(time) && new Date(time).toISOString().startsWith(day));
  if (!Number.isNaN(time) && exists) return new Date(time).toISOString();
  throw misuse(`--since takes a time such as 2026-01-31, 2026-01-31T12:00Z or 24h, not ${quote(given)}`);
}

function hashOf(given: string): string {
  if (/^[0-9a-f]{64}$/.test(given)) return given;
  throw misuse('--contains takes a hash, 64 hexadecimal digits in lower case');
}

function misuse(message: string): Failure {
  return usageFailure(message, usageHint);
}

/** Writes lines no faster than they are read. */
class Output {
  readonly #stream: Writable;
  #batch = '';
  #isClosed = false;

  constructor(stream: Writable) {
    this.#stream = stream;
    // The reader is gone, as in `... | head`; the write that finds out is told, too.
    stream.on('error', () => (this.#isClosed = true));
  }

  /** Returns whether the output is still being read. */
  async print(line: string): Promise<boolean> {
    this.#batch += `${line}\n`;
    if (this.#batch.length >= batchLength) await this.flush();
    return !this.#isClosed;
  }

  async flush(): Promise<void> {
    const batch = this.#batch;
    this.#batch = '';
    if (batch === '' || this.#isClosed) return;
    await new Promise<void>((resolve) => this.#stream.write(batch, () => resolve()));
  }
}
