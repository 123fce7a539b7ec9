import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, beforeAll, describe, expect, test } from 'vitest';
import { fetchCodex, runCodex } from '../../scripts/codex.ts';
import { runCommand } from '../../scripts/command.ts';
import { type StandIn, startStandIn } from '../../scripts/stand-in-upstream.ts';
import { linesOf } from '../support/audit.ts';
import { cleanUp } from '../support/cleanup.ts';
import { type Daemon, startDaemon } from '../support/daemon.ts';
import { npm, registryProblem } from '../support/npm.ts';
import { policyArgs } from '../support/policy.ts';
import { scratchFolder } from '../support/scratch.ts';
import { skipUnless } from '../support/skip.ts';

/** What a user takes for at once: from the refusal to the client's end, in ms. */
const endsWithinMs = 3_000;

const codexVersion = '0.169.0';
const key = 'sk-loan-clients-0123456789abcdef';
const installMs = 600_000;

let codex: { readonly command: string } | { readonly missing: string };
let sdks: { readonly folder: string } | { readonly missing: string };

beforeAll(async () => {
  const fetched = await fetchCodex(codexVersion, scratchFolder());
  codex = fetched.kind === 'fetched' ? { command: fetched.command } : { missing: fetched.reason };
  const folder = scratchFolder(); // another one: npm would remove Codex from there
  // Without the optional packages: they are builds of Codex, which the SDK is given.
  const installing = await npm(['install', '--prefix', folder, '--no-save', '--ignore-scripts', '--omit=optional', 'openai', 'ai', '@ai-sdk/openai', '@openai/codex-sdk'], { cwd: folder });
  const problem = registryProblem(installing);
  if (problem === undefined) expect(installing.code, installing.stderr).toBe(0);
  sdks = problem === undefined ? { folder } : { missing: problem };
}, installMs);

interface Loan {
  readonly daemon: Daemon;
  readonly standIn: StandIn;
  readonly log: string;
}

async function lend(...args: readonly string[]): Promise<Loan> {
  const standIn = await startStandIn({ key });
  cleanUp(() => standIn.close());
  const log = join(scratchFolder(), 'audit.log');
  const daemon = await startDaemon({ key, args: ['--upstream-url', standIn.url, '--upstream-ca', standIn.caFile, '--websocket-fallback', '--audit-log', log, ...args] });
  return { daemon, standIn, log };
}

/** How a client's run ended: what was on its screen, and when (milliseconds of the Unix epoch). */
interface Run {
  readonly screen: string;
  readonly endedAtMs: number;
}

interface Client {
  readonly name: string;
  run(context: TestContext, loan: Loan, script: string): Promise<Run>;
}

/** A program with an SDK. It takes the base URL, the prompt and the codex command, and prints what its user would see. */
function program(name: string, text: string): Client {
  return {
    name,
    async run(context, { daemon }, script) {
      skipUnless(context, 'folder' in sdks && 'command' in codex, [sdks, codex].map((one) => ('missing' in one ? one.missing : '')).join(' '));
      if (!('folder' in sdks) || !('command' in codex)) throw new Error('unreachable');
      const home = scratchFolder();
      const file = join(sdks.folder, `${name.replaceAll(/\W/g, '-')}.mjs`);
      writeFileSync(file, text);
      const { stdout, stderr } = await runCommand(process.execPath, [file, `${daemon.origin}/v1`, `Please answer. [stand-in: ${script}]`, codex.command], {
        cwd: home, env: { PATH: process.env['PATH'], HOME: home, CODEX_HOME: home }, timeoutMs: 60_000,
      });
      return { screen: stdout + stderr, endedAtMs: Date.now() };
    },
  };
}

const clients: readonly Client[] = [
  {
    name: `Codex CLI ${codexVersion}`,
    async run(context, { daemon: { port } }, script) {
      skipUnless(context, 'command' in codex, 'missing' in codex ? codex.missing : '');
      if (!('command' in codex)) throw new Error('unreachable');
      const { stdout, stderr, code } = await runCodex({ command: codex.command, folder: scratchFolder(), port, hostPort: port, args: [`Please answer. [stand-in: ${script}]`] });
      expect(code, stderr).toBe(1);
      return { screen: stdout + stderr, endedAtMs: Date.now() };
    },
  },
  program('Codex SDK', `
    import { Codex } from '@openai/codex-sdk';
    const [url, prompt, codexPathOverride] = process.argv.slice(2);
    const codex = new Codex({ codexPathOverride, baseUrl: url, apiKey: 'none', config: { check_for_update_on_startup: false, 'analytics.enabled': false } });
    const thread = codex.startThread({ skipGitRepoCheck: true, sandboxMode: 'danger-full-access', approvalPolicy: 'never' });
    await thread.run(prompt).then(({ finalResponse }) => console.log(finalResponse), (error) => console.log(error.message));
  `),
  program('openai-node', `
    import OpenAI from 'openai';
    const [baseURL, prompt] = process.argv.slice(2);
    const client = new OpenAI({ baseURL, apiKey: 'none' });
    // An agent: it goes on until something ends it.
    for (let turn = 0; turn < 10; turn++) {
      const stream = await client.responses.create({ model: 'gpt-5', input: prompt, stream: true }).catch((error) => { console.log(error.message); process.exit(); });
      for await (const event of stream);
    }
  `),
  program('Vercel AI SDK', `
    import { createOpenAI } from '@ai-sdk/openai';
    import { generateText } from 'ai';
    const [baseURL, prompt] = process.argv.slice(2);
    const openai = createOpenAI({ baseURL, apiKey: 'none' });
    for (let turn = 0; turn < 10; turn++) await generateText({ model: openai('gpt-5'), prompt }).catch((error) => { console.log(error.message); process.exit(); });
  `),
];

/** One request was refused, by this rule, after so many that went up; the client told its user, and ended soon after. */
function expectEnd({ log, standIn }: Loan, { screen, endedAtMs }: Run, rule: string, message: RegExp, wentUp: number): void {
  const requests = linesOf(log).filter(({ method, target }) => method === 'POST' && target === '/v1/responses');
  const refused = requests.filter(({ decision }) => decision === 'refused');
  expect(refused, screen).toMatchObject([{ rule, status: 400 }]);
  expect(screen).toMatch(message);
  expect(requests.length - refused.length).toBe(wentUp);
  expect(standIn.requests).toHaveLength(wentUp);
  expect(endedAtMs - Date.parse(String(refused[0]?.['time']))).toBeLessThan(endsWithinMs);
}

describe.each(clients)('$name ends at once and shows why', (client) => {
  const toolTurn = 'tool exec_command {"cmd":"echo working"}';

  test('when the budget is used up in the middle of a run', async (context) => {
    const loan = await lend(...policyArgs({ limits: { tokens_total: 1 } }));
    const run = await client.run(context, loan, toolTurn);
    expectEnd(loan, run, 'tokens_total', /The policy \(tokens_total\) allows 1 in all, and they are used up/, 1);
  });

  test('when today\'s budget is used up in the middle of a run', async (context) => {
    skipUnless(context, 86_400_000 - (Date.now() % 86_400_000) > 180_000, 'needs three minutes before midnight UTC: then the wait is short');
    const loan = await lend(...policyArgs({ limits: { tokens_per_day: 1 } }));
    const run = await client.run(context, loan, toolTurn);
    expectEnd(loan, run, 'tokens_per_day', /The policy \(tokens_per_day\) allows 1 a day \(UTC\), and they are used up until \d{4}-/, 1);
  });

  test('when a rule denies the request', async (context) => {
    const loan = await lend(...policyArgs({ models: ['granted-*'] }));
    const run = await client.run(context, loan, 'text hello');
    expectEnd(loan, run, 'models', /The policy \(models\) does not allow/, 0);
  });
});

describe.each(clients.slice(0, 2))('$name', (client) => {
  test('ends at once and shows why when the loan ends in the middle of a run', async (context) => {
    const loan = await lend('--expire-at', new Date(Date.now() + 12_000).toISOString());
    const flag = join(scratchFolder(), 'over');
    loan.daemon.waitForStderr(/the loan is over/, 40_000).then(() => writeFileSync(flag, ''), () => {}); // what fails shows at its end
    const run = await client.run(context, loan, `tool exec_command ${JSON.stringify({ cmd: `until test -e ${flag}; do sleep 0.1; done`, yield_time_ms: 30_000 })}`);
    expectEnd(loan, run, 'expire_at', /This key was lent until .*; that time is over/, 1);
  });
});

// With its built-in provider, which the SDK uses, Codex asks for a WebSocket first. Without a 426 it asks seven times, for 7 s.
test('the Codex SDK falls back from WebSocket to POST at once', async (context) => {
  const sdk = clients[1];
  const loan = await lend();
  const { screen } = (await sdk?.run(context, loan, 'text It came through.')) ?? { screen: '' };
  expect(screen.trim()).toBe('It came through.');
  const requests = linesOf(loan.log).filter(({ target }) => target === '/v1/responses');
  expect(requests).toMatchObject([{ method: 'GET', status: 426, rule: 'websocket_not_served' }, { method: 'POST', status: 200, decision: 'allowed' }]);
  const [asked, posted] = requests.map(({ time }) => Date.parse(String(time)));
  expect((posted ?? Infinity) - (asked ?? 0)).toBeLessThan(endsWithinMs);
});
