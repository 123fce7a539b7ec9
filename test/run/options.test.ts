import { closeSync, openSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findUsers } from '../../src/extras/users.ts';
import { parseCommandLine } from '../../src/options.ts';
import { failureOf, misuseOf, optionsOf } from '../support/command-line.ts';
import { checkout } from '../support/daemon-paths.ts';
import { randomKey, runToExit, shell } from '../support/daemon.ts';
import { expectNoPieceOf, expectNoStack, refusalOf } from '../support/messages.ts';
import { helpAt } from '../support/help.ts';
import { builtNative } from '../support/native.ts';
import { scratchFolder } from '../support/scratch.ts';

describe('--help', () => {
  test('shows every flag and the default upstream, reads no key, exits 0', async () => {
    const exit = await runToExit({ args: ['--help'], stdin: () => {} });
    expect(exit.code).toBe(0);
    expect(exit.stderr).toBe('');
    for (const flag of ['--port', '--upstream-url', '--upstream-ca', '--server-info', '--http-shutdown', '--shutdown-timeout', '--help', '--version']) {
      expect(exit.stdout).toContain(flag);
    }
    expect(exit.stdout).toContain('https://api.openai.com/v1/responses');
    expect(exit.stdout).toContain('responses-api-proxy');
  });

  test('has 80 columns where stdout is no terminal', async () => {
    const widths = widthsOf((await runToExit({ args: ['--help'] })).stdout);
    expect(Math.max(...widths)).toBe(80);
  });

  test.for([60, 80, 100, 157])('has the width of a terminal of %i columns', async (columns, context) => {
    expect(Math.max(...widthsOf(await helpAt(columns, context)))).toBe(columns);
  });

  test.for([0, 1])('can be read on a terminal that says it has %i columns', async (columns, context) => {
    expect(await helpAt(columns, context)).toMatch(/^ {2}--port {2,}\S/m);
  });

  test('says what each value is', async () => {
    const { stdout } = await runToExit({ args: ['--help'] });
    const takes: Readonly<Record<string, string>> = {
      port: '[port]', 'connect-timeout': '[seconds] [default: 10]', 'shutdown-timeout': '[seconds] [default: 10]',
      'server-info': '[file]', 'run-as': '[user]', 'upstream-url': '[url]', 'upstream-header': '[header]',
    };
    for (const [flag, value] of Object.entries(takes)) {
      const [entry = ''] = new RegExp(`^ {2}--${flag} [^]*?(?=^ {2}--|^$)`, 'm').exec(stdout) ?? [];
      expect(entry.replace(/\s+/g, ' ')).toContain(` ${value}`);
    }
    expect(stdout).not.toMatch(/\[(string|array|boolean)\]/);
    expect(stdout).not.toMatch(/\w\[/); // yargs puts no space between columns that just fit
  });

  test.for<readonly string[]>([
    ['-h'],
    ['help'],
    ['help', 'policy'],
    ['serve', '--help'],
    ['--port', '8080', 'serve', '-h'],
    ['--port', 'x', '--help'],
    ['--help', '--version'],
  ])('is shown for %j', async (args) => {
    const shown = await parseCommandLine(['--help'], {});
    expect(shown).toContain('--port');
    expect(await parseCommandLine(args, {})).toEqual(shown);
  });

  test.for<readonly string[]>([['--help', '--nope'], ['-h', '-x'], ['--help=yes'], ['-hh'], ['--', '--help'], ['--port', '--help']])('is not shown for %j', async (args) => {
    await misuseOf(args);
  });
});

function widthsOf(text: string): number[] {
  return text.split('\n').map((line) => line.length);
}

test.for<readonly string[]>([['-v'], ['-V'], ['version'], ['serve', '--version']])('%j prints what --version prints', async (args) => {
  expect(await parseCommandLine(args, {})).toEqual(await parseCommandLine(['--version'], {}));
});

test('--version prints the version of the package, reads no key, exits 0', async () => {
  const { version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string };
  const exit = await runToExit({ args: ['--version'], stdin: () => {} });
  expect(exit).toMatchObject({ code: 0, stderr: '' });
  expect(exit.stdout.trim().split(/\s+/).at(-1)).toBe(version);
});

describe('wrong arguments exit 2 without reading a key', () => {
  const wrong: readonly (readonly [args: readonly string[], named: string])[] = [
    // Unknown. What does not look like a flag's name is not repeated in the message: it could be the key.
    [['--nope'], '--nope'],
    [['--nope', 'x'], '--nope'],
    [['--nope=x'], '--nope'],
    [['--no-http-shutdown'], '--no-http-shutdown'],
    [['--Port', '8080'], 'unknown'],
    [['--serverInfo', 'x'], 'unknown'],
    [['--httpShutdown'], 'unknown'],
    [['--port.x', '8080'], 'unknown'],
    [['--__proto__', 'x'], 'unknown'],
    [['--constructor', 'x'], 'unknown'],
    [['--toString'], 'unknown'],
    [['-p', '8080'], 'unknown'],
    [['-x'], 'unknown'],
    [['-'], ''],
    [['--'], ''],
    [[''], ''],
    [['serve'], 'unexpected argument'],
    [['--http-shutdown', 'yes'], 'unexpected argument'],
    // A parser that takes booleans by their words would swallow these.
    [['--http-shutdown', 'true'], 'unexpected argument'],
    [['--http-health', 'false'], 'unexpected argument'],
    [['--issue-token', 'false', '--server-info', 'info.json'], 'unexpected argument'],
    [['true'], 'unexpected argument'],
    [['--http-shutdown=true'], '--http-shutdown'],
    [['--issue-token=false'], '--issue-token'],
    [['--http-shutdown', '--', 'x'], ''],
    // Repeated.
    [['--port', '8080', '--port', '8081'], '--port'],
    [['--port', '8080', '--port=8080'], '--port'],
    [['--http-shutdown', '--http-shutdown'], '--http-shutdown'],
    [['--server-info', 'a', '--server-info', 'b'], '--server-info'],
    [['--upstream-url', 'https://a.example/', '--upstream-url', 'https://b.example/'], '--upstream-url'],
    [['--upstream-ca', 'a', '--upstream-ca', 'b'], '--upstream-ca'],
    [['--shutdown-timeout', '1', '--shutdown-timeout', '2'], '--shutdown-timeout'],
    // Malformed.
    ...['', '-1', '65536', '80.5', '1e3', '0x50', '80x', ' 80', '+80', '٨٠', 'Infinity', '99999999999999999999'].map((value) => [[`--port=${value}`], '--port'] as const),
    [['--port'], '--port'],
    [['--port', '--http-shutdown'], '--port'],
    ...['', 'soon', '-1', '1e3', '0x10', 'Infinity', '10s'].map((value) => [[`--shutdown-timeout=${value}`], '--shutdown-timeout'] as const),
    [['--shutdown-timeout'], '--shutdown-timeout'],
    [['--server-info='], '--server-info'],
    [['--server-info'], '--server-info'],
    [['--upstream-url'], '--upstream-url'],
    [['--upstream-ca='], '--upstream-ca'],
    [['--upstream-ca'], '--upstream-ca'],
    [['--http-shutdown=maybe'], '--http-shutdown'],
    [['--http-shutdown='], '--http-shutdown'],
  ];
  test.for(wrong)('%j', async ([args, named]) => {
    expect((await misuseOf(args)).message).toContain(named);
  });

  test.for<readonly [given: string, hint: string]>([
    ['--http-shut', 'did you mean --http-shutdown?'],
    ['--server-inof', 'did you mean --server-info?'],
    ['--allow-users', 'did you mean --allow-user?'],
    ['--http', 'did you mean --http-health or --http-shutdown?'],
    ['--hey', 'see responses-api-proxy --help'],
    ['--nope', 'see responses-api-proxy --help'],
    ['--key', 'see responses-api-proxy --help'],
  ])('of %s: the hint has the flags that begin as it does: %s', async ([given, hint]) => {
    expect(await misuseOf([given, 'x'])).toMatchObject({ message: `unknown flag ${given}`, hint });
  });

  test('seconds may have a fraction', async () => {
    expect(await optionsOf(['--shutdown-timeout', '1.5', '--connect-timeout', '0', '--idle-timeout', '0.001'])).toMatchObject({ shutdownTimeoutMs: 1_500, upstream: { connectTimeoutMs: 0, idleTimeoutMs: 1 } });
  });

  test('and the daemon says so', async () => {
    // Stdin stays open and silent: a daemon that read it first would wait for ever.
    const exit = await runToExit({ args: ['--port=0x50'], stdin: () => {} });
    expect(refusalOf(exit, 2)).toContain('--port');
  });

  test.for<readonly [string, (key: string) => readonly string[]]>([
    ['as a word', (key) => [key]],
    ['as a flag', (key) => [`--${key}`]],
    ['as a short flag', (key) => [`-${key}`]],
    ['as the value of a flag that we do not have', (key) => ['--api-key', key]],
    ['as the value of a flag that we do not have, with =', (key) => [`--key=${key}`]],
    ['as the value of a flag that takes none', (key) => [`--http-shutdown=${key}`]],
    ['behind --', (key) => ['--', key]],
    ['as a port', (key) => ['--port', key]],
    ['as a number, with =', (key) => [`--connect-timeout=${key}`]],
    ['as a path', (key) => ['--endpoint', key]],
    ['as a URL', (key) => ['--upstream-url', key]],
    ['in a URL', (key) => ['--upstream-url', `https://${key}@gateway.example/`]],
    ['as a proxy', (key) => ['--upstream-proxy', key]],
    ['as a header', (key) => ['--upstream-header', key]],
    ['as the header that carries the key', (key) => ['--auth-header', `Bearer ${key}`]],
    ['as the word before the key', (key) => ['--auth-header', `Authorization: Bearer ${key}`]],
    ['as a user', (key) => ['--allow-user', key]],
    ['as the user to become', (key) => ['--run-as', key]],
  ])('a key that is given %s is not repeated', async ([, args]) => {
    const key = randomKey();
    for (const secret of [key, key.toLowerCase().replace(/[^a-z-]/g, '')]) {
      const { message, hint } = await failureOf(async () => findUsers(await optionsOf(args(secret)), builtNative()), 2);
      expectNoPieceOf(secret, message + hint);
    }
  });

  test('control characters in an argument do not reach the terminal as they are', async () => {
    const exit = await runToExit({ args: ['--nope\x1b[2J\nresponses-api-proxy listening on 127.0.0.1:1'], stdin: () => {} });
    refusalOf(exit, 2);
    expect(exit.stderr).not.toContain('\x1b');
    expect(exit.stderr).not.toMatch(/^responses-api-proxy listening/m);
  });
});

describe('no stack trace reaches the user', () => {
  test.for<[string, readonly string[]]>([
    ['an unusable --server-info', ['--server-info', '/proc/none/such']],
    ['an unusable --upstream-ca', ['--upstream-ca', '/']],
    ['a URL that is none', ['--upstream-url', 'https://[']],
  ])('%s', async ([, args]) => {
    const exit = await runToExit({ args });
    expect([1, 2]).toContain(exit.code);
    refusalOf(exit, [1, 2]);
    expectNoStack(exit.stderr);
  });

  test.for(['--help', '--version'])('%s whose output is not read', async (flag) => {
    for (const stdout of ['&-', '/dev/full']) {
      const exit = await runToExit({ args: [flag], prefix: shell(`exec >${stdout}`), stdin: () => {} });
      expect([0, 1]).toContain(exit.code);
      expectNoStack(exit.stderr);
    }
  });

  test('a path that is too long', async () => {
    const exit = await runToExit({ args: ['--server-info', `${scratchFolder()}/${'x'.repeat(300)}/info.json`] });
    refusalOf(exit, 1);
  });
});

describe('files are kept apart', () => {
  test.for([
    ['--server-info', '--audit-log'], ['--audit-log', '--server-info'],
    ['--policy', '--audit-log'], ['--client-token-file', '--server-info'], ['--upstream-ca', '--server-info'],
  ] as const)('%s and %s', async ([one, other]) => {
    const folder = scratchFolder();
    const { message } = await misuseOf([one, join(folder, 'file'), other, `${folder}/../${basename(folder)}/file`]);
    for (const flag of [one, other, 'the same file']) expect(message).toContain(flag);
    expect(readdirSync(folder)).toEqual([]);
  });

  test.for(['--client-token-file', '--policy', '--upstream-ca'].flatMap((flag) => ['/dev/stdin', '/dev/fd/0', '/proc/self/fd/0', '/proc/thread-self/fd/0'].map((file) => [flag, file] as const)))('%s %s: stdin is for the key', async (args) => {
    expect((await misuseOf(args)).message).toContain(`${args[0]} cannot be stdin`);
  });

  test('stdin is for the key, by the name of its file too', async () => {
    const cwd = scratchFolder();
    const key = join(cwd, 'key');
    writeFileSync(key, `${randomKey()}\n`);
    const stdin = openSync(key, 'r');
    try {
      expect(refusalOf(await runToExit({ args: ['--policy', 'key'], stdin, cwd }), 2)).toContain('--policy cannot be stdin');
    } finally {
      closeSync(stdin);
    }
  });
});
