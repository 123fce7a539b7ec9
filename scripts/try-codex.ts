// Fetches the real Codex CLI and lets it complete turns of `codex exec` through the real daemon: Codex -> a tap that
// only listens -> the daemon -> the stand-in upstream. Needs the npm registry, no key and no other network.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { fetchCodex, lastLines, modelsOf, runCodex } from './codex.ts';
import type { CodexRun } from './codex.ts';
import type { CommandResult } from './command.ts';
import { startDaemon } from './daemon.ts';
import { runProgram } from './program.ts';
import { startStandIn } from './stand-in-upstream.ts';
import type { RecordedRequest } from './stand-in-upstream.ts';
import { startTap } from './tap.ts';
import type { TappedRequest } from './tap.ts';
import { makeTemporaryFolder } from './temporary-folder.ts';

const usage = `Usage: scripts/try-codex [--codex-version VERSION | --codex FILE] [--model NAME ... | --all] [--record FILE]

Completes turns of the real Codex CLI through the daemon, against a stand-in upstream: every kind of turn with its default
model, plain and with the example policy and an audit log; then a message for each other model that it knows.

  --codex-version VERSION  fetch this version of @openai/codex (default: the newest)
  --codex FILE             use this codex command and fetch none
  --model NAME             every kind of turn with this model, and no other; can be repeated
  --all                    every kind of turn with every model: an hour
  --record FILE            write the body of the message turn's request to FILE
`;

/** What one turn left behind, at every station. */
interface Turn {
  readonly codex: CommandResult;
  /** What Codex sent to the daemon. */
  readonly sent: readonly TappedRequest[];
  /** What the daemon sent upstream. */
  readonly received: readonly RecordedRequest[];
  readonly isBuiltIn: boolean;
}

interface Trial {
  readonly name: string;
  /** What the stand-in is asked to do, in its own language. */
  readonly script: string;
  /** What Codex is called with, one after the other in one folder; by default the prompt alone. */
  readonly calls?: (prompt: string) => ReadonlyArray<readonly string[]>;
  readonly run?: Partial<CodexRun>;
  /** Returns one line about what was seen; throws if it is not what should be. */
  judge(turn: Turn): string;
}

const overallTimeoutMs = 7_200_000;
const recoveryLimitMs = 10_000;
const shutdownLimitMs = 15_000;
const examplePolicy = fileURLToPath(new URL('policies/codex.json', import.meta.url));
const key = `sk-try-codex-${randomBytes(24).toString('base64url')}`;

/** An MCP server with one tool, as a program. */
const mcpServer = `const answer = { initialize: (p) => ({ protocolVersion: p.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'seven', version: '1' } }),
  'tools/list': () => ({ tools: [{ name: 'say_seven', description: 'Says seven.', inputSchema: { type: 'object', properties: {} } }] }) };
require('readline').createInterface({ input: process.stdin }).on('line', (line) => { const { id, method, params } = JSON.parse(line);
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: answer[method]?.(params) ?? {} })); });`;

/** Beyond the first message, this makes Codex compact what was said. */
const compacts = ['model_auto_compact_token_limit=1'];

const messageTrial: Trial = {
  name: 'message turn',
  script: 'text The message has come through.',
  judge({ codex, received }) {
    assert.equal(codex.stdout.trim(), 'The message has come through.', 'what Codex printed');
    assert.equal(received.length, 1, 'requests upstream');
    return `1 request of ${received[0]?.body.length} bytes`;
  },
};

/** Only that it ends well, and how many requests it took. */
function endsWell(least: number): Trial['judge'] {
  return ({ received }) => {
    assert.ok(received.length >= least, `${received.length} requests upstream`);
    assert.ok(received.every(({ status }) => status === 200), 'a request that was refused');
    return `${received.length} requests`;
  };
}

const trials: readonly Trial[] = [
  messageTrial,
  {
    name: 'tool turn',
    run: { runsCommands: true },
    // The result is not in the command, so it can only come from running it.
    script: 'tool exec_command {"cmd":"echo $((6 * 7)) it is"}',
    judge({ codex, received }) {
      assert.match(codex.stdout, /^The tool answered: [^]*\b42 it is\b/, 'what Codex printed');
      assert.equal(received.length, 2, 'requests upstream');
      const second = received[1]?.body.toString('utf8') ?? '';
      assert.match(second, /"type":"function_call_output"[^}]*42 it is/, 'the output of the command in the second request');
      return '2 requests, the second with the output of the command';
    },
  },
  {
    name: 'as JSON',
    script: 'text In JSON.',
    calls: (prompt) => [['--json', prompt]],
    judge({ codex, received }) {
      const events = codex.stdout.trim().split('\n').map((line) => JSON.parse(line) as { type: string; item?: { text?: string } });
      assert.ok(events.some(({ item }) => item?.text === 'In JSON.'), 'what Codex printed');
      return `${received.length} request, ${events.length} events`;
    },
  },
  { name: 'resumed', script: 'text Once more.', calls: (prompt) => [[prompt], ['resume', '--last', prompt]], judge: endsWell(2) },
  { name: 'review', script: 'text', calls: () => [['review', '--uncommitted']], judge: endsWell(1) },
  { name: 'compaction', script: 'text Compacted.', calls: (prompt) => [[prompt], ['resume', '--last', prompt]], run: { config: compacts }, judge: endsWell(3) },
  { name: 'compaction by the upstream', script: 'text Compacted.', calls: (prompt) => [[prompt], ['resume', '--last', prompt]], run: { config: compacts, providerName: 'OpenAI' }, judge: endsWell(2) },
  { name: 'MCP server', script: 'text With a server.', run: { config: [`mcp_servers.seven={ command='node', args=['-e', ${JSON.stringify(mcpServer)}] }`] }, judge: endsWell(1) },
  {
    name: 'cut stream',
    script: 'cut, then text It came through the second time.',
    judge({ codex, received: [first, second, ...more] }) {
      assert.equal(codex.stdout.trim(), 'It came through the second time.', 'what Codex printed');
      assert.equal(more.length, 0, 'requests upstream beyond two');
      assert.equal(first?.outcome, 'cut', 'the end of the first answer');
      assert.equal(second?.outcome, 'answered', 'the end of the second answer');
      assert.ok(first.events.some(({ type }) => type === 'response.output_text.delta'), 'words before the cut');
      const recoveryMs = (second.events[0]?.atMs ?? Infinity) - (first.events.at(-1)?.atMs ?? 0);
      assert.ok(recoveryMs < recoveryLimitMs, `Codex took ${Math.round(recoveryMs)} ms to recover`);
      return `cut after ${first.events.length} events, the next answer began ${Math.round(recoveryMs)} ms later`;
    },
  },
];

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      'codex-version': { type: 'string', default: 'latest' },
      'codex': { type: 'string' },
      'model': { type: 'string', multiple: true },
      'all': { type: 'boolean', default: false },
      'record': { type: 'string' },
      'help': { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }

  const folder = makeTemporaryFolder('try-codex-');
  const codex = values.codex === undefined
    ? await fetchCodex(values['codex-version'], folder.path)
    : { kind: 'fetched', command: resolve(values.codex) } as const;
  if (codex.kind === 'unavailable') {
    console.log(`skipped: ${codex.reason}`);
    return 0;
  }

  const tally: Tally = { passed: 0, failed: 0 };
  const known = await modelsOf(codex.command, folder.path);
  const [byDefault] = known;
  const inFull = values.all ? known : (values.model ?? [undefined]);
  const auditLog = (name: string): string => join(folder.path, `${name.replaceAll(' ', '-')}.audit.log`);
  const lent = (name: string): Setup => ({
    name,
    args: ['--policy', examplePolicy, '--audit-log', auditLog(name)],
    check: (received) => judgeRecords(auditLog(name), received),
  });
  const shared = { command: codex.command, folder: folder.path, tally };
  for (const model of inFull) {
    const of = model === undefined ? '' : ` ${model}`;
    await tryAll({ name: `plain${of}`, args: [], check: () => 'exit code 0' }, turnsOf([model], trials), { ...shared, recordTo: values.record });
    await tryAll(lent(`on loan${of}`), turnsOf([model], trials), shared);
    await tryAll({ name: `WebSocket first${of}`, args: ['--websocket-fallback'], run: { mayUseWebsocket: true }, check: () => 'exit code 0' }, turnsOf([model], [messageTrial]), shared);
    await tryAll({ name: `openai_base_url${of}`, args: ['--websocket-fallback', '--policy', examplePolicy], run: { isBuiltIn: true }, check: () => 'exit code 0' }, turnsOf([model], [messageTrial]), shared);
  }
  if (!values.all && values.model === undefined) await tryAll(lent('every model'), turnsOf(known.filter((model) => model !== byDefault), [messageTrial]), shared);
  console.log(`${tally.passed} passed, ${tally.failed} failed`);
  return tally.failed === 0 ? 0 : 1;
}

/** A kind of turn with a model; undefined for the one that Codex takes. */
interface Kind {
  readonly model: string | undefined;
  readonly trial: Trial;
}

function turnsOf(models: ReadonlyArray<string | undefined>, kinds: readonly Trial[]): Kind[] {
  return models.flatMap((model) => kinds.map((trial) => ({ model, trial })));
}

/** A way to run the daemon. */
interface Setup {
  readonly name: string;
  readonly args: readonly string[];
  readonly run?: Partial<CodexRun>;
  /** Looks at what is left once the daemon has ended. Returns one line about it; throws if it is not what should be. */
  check(received: readonly RecordedRequest[]): string;
}

interface Tally {
  passed: number;
  failed: number;
}

/** Lets Codex complete every turn through one daemon, and stops that. */
async function tryAll(
  setup: Setup,
  kinds: readonly Kind[],
  { command, folder, recordTo, tally }: { command: string; folder: string; recordTo?: string | undefined; tally: Tally },
): Promise<void> {
  const tell = (name: string, judge: () => string): boolean => {
    try {
      console.log(`ok    ${setup.name}: ${name}: ${judge()}`);
      tally.passed += 1;
      return true;
    } catch (error) {
      console.log(`FAIL  ${setup.name}: ${name}: ${error instanceof Error ? error.message : String(error)}`);
      tally.failed += 1;
      return false;
    }
  };
  const own = join(folder, setup.name.replaceAll(' ', '-'));
  mkdirSync(own);
  const standIn = await startStandIn({ key });
  const daemon = await startDaemon({
    key, upstreamUrl: standIn.url, upstreamCa: standIn.caFile, serverInfo: join(own, 'server-info.json'), args: setup.args,
  });
  const tap = await startTap(daemon.port);

  for (const { model, trial } of kinds) {
    const { script, judge } = trial;
    const name = kinds.length > trials.length && model !== undefined ? `${trial.name} of ${model}` : trial.name;
    const sentBefore = tap.requests().length;
    const receivedBefore = standIn.requests.length;
    const turnFolder = join(own, name.replaceAll(' ', '-'));
    const workplace = join(turnFolder, 'work');
    mkdirSync(workplace, { recursive: true });
    if (trial.name === 'review') makeChange(workplace);
    const prompt = `Please answer. [stand-in: ${script}]`;
    const results: CommandResult[] = [];
    for (const args of trial.calls?.(prompt) ?? [[prompt]]) {
      results.push(await runCodex({ command, folder: turnFolder, port: tap.port, hostPort: daemon.port, args, ...(model === undefined ? {} : { model }), ...setup.run, ...trial.run }));
    }
    const result = results.find(({ code }) => code !== 0) ?? results.at(-1);
    assert.ok(result !== undefined);
    const isBuiltIn = setup.run?.isBuiltIn === true;
    const sent = tap.requests().slice(sentBefore);
    const turn = { codex: result, sent: sent.filter(({ head }) => !isWebsocket(head)), received: standIn.requests.slice(receivedBefore), isBuiltIn };
    const isGood = tell(name, () => {
      judgeCustody(turn);
      if (!isBuiltIn) assert.equal(sent.filter(({ head }) => isWebsocket(head)).length > 0, setup.run?.mayUseWebsocket === true, 'whether Codex asked for a WebSocket');
      if (!script.startsWith('cut') && !isBuiltIn) assert.doesNotMatch(result.stderr, /Reconnecting/, 'what Codex told its user');
      return `${judge(turn)}; ${(results.reduce((sum, { durationMs }) => sum + durationMs, 0) / 1000).toFixed(1)} s`;
    });
    if (!isGood) console.log(`Codex said:\n${lastLines(result.stderr)}\nthe daemon said:\n${lastLines(daemon.said())}`);
    if (recordTo !== undefined && trial === messageTrial && turn.sent[0] !== undefined) writeFileSync(recordTo, turn.sent[0].body);
  }

  get({ host: '127.0.0.1', port: daemon.port, path: '/shutdown' }, (answer) => answer.resume()).on('error', () => {
    // What counts is how the daemon ends.
  });
  const timer = setTimeout(() => { process.kill(daemon.pid, 'SIGKILL'); }, shutdownLimitMs);
  const { code } = await daemon.exited;
  clearTimeout(timer);
  tell('the daemon stopped by /shutdown', () => {
    assert.equal(code, 0, 'exit code');
    return setup.check(standIn.requests);
  });
  await tap.close();
  await standIn.close();
}

/** A checkout with something in it to be reviewed. */
function makeChange(folder: string): void {
  execFileSync('git', ['init', '--quiet', folder]);
  writeFileSync(join(folder, 'sum.js'), 'export const sum = (a, b) => a - b;\n');
}

/** RFC 6455 section 4.1. */
function isWebsocket(head: string): boolean {
  return /^GET [^]*^upgrade: websocket\r?$/im.test(head);
}

/** The audit log has each request that went up, allowed, with its tokens where the answer was not cut; and nothing else. */
function judgeRecords(file: string, received: readonly RecordedRequest[]): string {
  const records = readFileSync(file, 'latin1').trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ kind, target }) => kind === 'request' && target === '/v1/responses');
  assert.equal(records.length, received.length, 'records of requests');
  for (const [index, { decision, ended, usage }] of records.entries()) {
    assert.equal(decision, 'allowed', `record ${index}`);
    assert.equal(ended, received[index]?.outcome === 'cut' ? 'upstream_cut' : 'complete', `the end of record ${index}`);
    if (ended === 'complete') assert.ok((usage as { total?: number } | undefined)?.total, `the tokens of record ${index}`);
  }
  return `${records.length} requests passed the example policy, and are recorded`;
}

/** What holds in every turn: Codex had no credential, the upstream got ours once, and the bodies are the same byte for byte. */
function judgeCustody({ codex, sent, received, isBuiltIn }: Turn): void {
  assert.equal(codex.code, 0, codex.code === null ? 'Codex did not end in time' : 'exit code of Codex');
  assert.ok(received.length > 0, 'nothing reached the upstream');
  // Its own provider names the daemon's port in the Host header, so there is no tap in between.
  if (!isBuiltIn) assert.equal(sent.length, received.length, 'requests of Codex and requests upstream');
  for (const [index, request] of received.entries()) {
    const credentials = request.rawHeaders.filter((_, place, all) => place % 2 === 1 && all[place - 1]?.toLowerCase() === 'authorization');
    // Compared without assert.equal: its message would print the key.
    assert.ok(credentials.length === 1 && credentials[0] === `Bearer ${key}`, 'the upstream did not get the key exactly once');
    if (isBuiltIn) continue;
    const client = sent[index];
    assert.ok(client !== undefined);
    assert.match(client.head, /^POST \/v1\/responses HTTP\/1\.1\r\n/, 'the request line of Codex');
    assert.doesNotMatch(client.head, /^(proxy-)?authorization:/im, 'Codex sent a credential');
    assert.ok(client.body.equals(request.body), 'the body changed on its way');
  }
  assert.ok(!`${codex.stdout}${codex.stderr}`.includes(key), 'Codex has seen the key');
}

runProgram('try-codex', overallTimeoutMs, main);
